# check_mounts: `make help` lists the targets.

# The interpreter that users have. A shim elsewhere in PATH may be slow, or be another version.
PYTHON ?= /usr/bin/python3
PREFIX ?= /usr/local
DESTDIR ?=
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' check_mounts/__init__.py)
VENV := .venv
LIBRARIES := 1.3.2 1.4.0
# Debian 11 has this version.
OLDEST_PROMETHEUS := 0.9.0
# Real programs that run this one, or read what it writes. msmtp-mta is for bsd-mailx, which nagios4 needs:
# the default would be exim4, setuid root.
MONITORING := prometheus prometheus-node-exporter icinga2-bin icinga2-common nagios4-core nagios4-common \
	nagios-nrpe-server nagios-nrpe-plugin nsca nsca-client nsca-ng-server monitoring-plugins-basic monitoring-plugins-standard \
	rpcbind iproute2 checkpolicy semodule-utils selinux-policy-default msmtp-mta curl \
	python3-nagiosplugin python3-prometheus-client python3-rich influxdb slurmctld slurmd slurm-client slurm-wlm-basic-plugins \
	zabbix-agent zabbix-agent2 zabbix-server-pgsql zabbix-frontend-php postgresql php-cli php-pgsql php-bcmath php-gd php-mbstring php-xml

# Peers of `make versus`; coreutils is there.
PEERS := monitoring-plugins-basic prometheus-node-exporter collectd-core python3-psutil

LIBDIR := $(PREFIX)/lib/check_mounts
BINDIR := $(PREFIX)/bin
MANDIR := $(PREFIX)/share/man
DATADIR := $(PREFIX)/share/check_mounts
BASHDIR := $(PREFIX)/share/bash-completion/completions
# Debian's packages have theirs in share/zsh/vendor-completions.
ZSHDIR := $(PREFIX)/share/zsh/site-functions
FISHDIR := $(PREFIX)/share/fish/vendor_completions.d
# Files for the administrator, also in subdirectories. `install` changes only the paths in them, and
# keeps what is executable executable.
SHARED := nrpe nagios icinga2 prometheus integrations
# What `install` has put into directories of others.
LIST := $(LIBDIR)/installed

# Most tests wait most of the time. One process runs all tests of a file, so that their shared fixtures
# are made once. The files that take longest start first.
PARALLEL ?= -n $(shell expr 2 \* $$(nproc) + 1) --dist loadfile --no-loadscope-reorder

# A test that failed beside others runs once more on its own, and that counts; the output shows both.
AGAIN := { echo 'once more, alone:'; $(VENV)/bin/python -m pytest -n 0 --last-failed --last-failed-no-failures none; }

# Root installs packages directly, other users through sudo.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
APT := $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get

.DEFAULT_GOAL := help
.PHONY: help run check test durations lint types bench versus screenshots soak mount-oracle faults lab zoo lab-kernels install pyz uninstall clean system-run system-test system-fresh system-bench system-lab

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: $(VENV)/run  ## build an environment and check the mounts of this host
	@$(VENV)/bin/check_mounts -v; state=$$?; echo "(exit status $$state)"; [ $$state -le 3 ]

check: $(VENV)/lint $(VENV)/test  ## lint, types and the quick tests (without guest, monitoring software, packages and tests/slow.txt)
	$(MAKE) -s lint types
	$(VENV)/bin/python -m pytest -q $(PARALLEL) -m 'not (slow or guest or monitoring or packages)' $(PYTEST_ARGS)

test: $(VENV)/test $(VENV)/lab/root $(VENV)/monitoring/root $(VENV)/fresh/root  ## all tests: as root with real mounts, a guest with real servers, monitoring software, packages
	$(VENV)/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS) || $(AGAIN)

durations: $(VENV)/test $(VENV)/lab/root $(VENV)/monitoring/root $(VENV)/fresh/root  ## measure the tests and write tests/slow.txt
	$(VENV)/bin/python -m pytest -q $(PARALLEL) --junitxml=$(VENV)/durations.xml
	$(VENV)/bin/python tests/slow.py $(VENV)/durations.xml > $(VENV)/slow.txt && mv $(VENV)/slow.txt tests/slow.txt

lint: $(VENV)/lint  ## ruff: style and format; modules, classes and functions that are too large
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python tests/sizes.py

types: $(VENV)/lint $(VENV)/test  ## mypy --strict
	$(VENV)/bin/mypy

bench: $(VENV)/run system-bench  ## measurements beside the peers (root, some minutes); writes bench/results.md
	$(VENV)/bin/python -m bench

versus: $(VENV)/run $(VENV)/lab/root $(VENV)/versus/root  ## beside check_disk, node_exporter, collectd, psutil, df, on the same broken mounts: docs/versus.md (root, some ten minutes)
	$(VENV)/bin/python -m bench.versus

screenshots: $(VENV)/test  ## the pictures of docs/pictures, by the real program on a real terminal (root)
	$(VENV)/bin/python -m tests.pictures

soak: $(VENV)/test  ## the daemon over 2,000 passes while mounts come, go, hang and recover (root, some minutes)
	SOAK_PASSES=2000 $(VENV)/bin/python -m pytest -q tests/test_soak.py

mount-oracle: $(VENV)/test  ## declared options against mount(8) and the kernel, 5,000 random cases (root, some minutes)
	MOUNT_ORACLE_CASES=5000 $(VENV)/bin/python -m pytest -q tests/test_mount_oracle.py

faults: $(VENV)/test  ## each system call of a check fails once, with each possible error (root, strace; about half an hour)
	FAULTS=all $(VENV)/bin/python -m pytest -q tests/test_faults.py

lab: $(VENV)/run $(VENV)/lab/root  ## a shell in a guest with real NFS, CIFS, 9p, ... to break at will (see tests/lab/README.md)
	$(VENV)/bin/python -m tests.lab.verdict --shell

zoo: $(VENV)/run $(VENV)/lab/root  ## break, check and heal the same mounts, and compare with what is expected
	$(VENV)/bin/python -m tests.lab.verdict

lab-kernels: $(VENV)/run $(VENV)/lab/root  ## the zoo on Debian's kernels 5.10, 6.1 and 6.12 under an emulating QEMU (about fifteen minutes)
	$(VENV)/bin/python -m tests.lab.kernels $(SUITES)

install:  ## program, man pages, and the files for NRPE, Nagios, Icinga 2, Prometheus and others; honours PREFIX and DESTDIR
	install -d "$(DESTDIR)$(BINDIR)"
	find check_mounts -name '*.py' -o -name py.typed | while read -r file; do \
		install -p -D -m 644 "$$file" "$(DESTDIR)$(LIBDIR)/$$file" || exit; \
	done
# This removes modules of an earlier version, and everything compiled. It comes after the copy, because
# a check may be starting.
	cd "$(DESTDIR)$(LIBDIR)" && find check_mounts ! -type d | while read -r file; do \
		[ -e "$(CURDIR)/$$file" ] && [ "$${file%.pyc}" = "$$file" ] || rm -f "$$file" || exit; \
	done
	find "$(DESTDIR)$(LIBDIR)/check_mounts" -depth -type d -empty -delete
	find "$(DESTDIR)$(LIBDIR)" -mindepth 1 -maxdepth 1 ! -name check_mounts ! -name installed -exec rm -rf {} +
# The user who runs the program may have no right to store compiled modules, and --cached would then
# take 1.5 times as long. A compiled file knows its source by time and size, so an edited module takes
# effect, and two builds of the same sources are equal: the copies keep the times of the sources. Where
# SOURCE_DATE_EPOCH is set, a packager may set these times later; then Python uses hashes by itself,
# although each start takes a millisecond more to compare them.
	umask 022 && $(PYTHON) -I -m compileall -q -d "$(LIBDIR)/check_mounts" "$(DESTDIR)$(LIBDIR)/check_mounts"
	sed -e 's,@PYTHON@,$(PYTHON),' -e 's,@LIBDIR@,$(LIBDIR),' check_mounts.in > "$(DESTDIR)$(BINDIR)/check_mounts.new"
	chmod 755 "$(DESTDIR)$(BINDIR)/check_mounts.new" && mv -f "$(DESTDIR)$(BINDIR)/check_mounts.new" "$(DESTDIR)$(BINDIR)/check_mounts"
	for page in man/*.[1-9]; do \
		install -D -m 644 $$page "$(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}" || exit; \
	done
	install -d "$(DESTDIR)$(BASHDIR)" "$(DESTDIR)$(ZSHDIR)" "$(DESTDIR)$(FISHDIR)"
	umask 022 && $(PYTHON) -IB tools/completion.py bash > "$(DESTDIR)$(BASHDIR)/check_mounts"
	umask 022 && $(PYTHON) -IB tools/completion.py zsh > "$(DESTDIR)$(ZSHDIR)/_check_mounts"
	umask 022 && $(PYTHON) -IB tools/completion.py fish > "$(DESTDIR)$(FISHDIR)/check_mounts.fish"
	find ./check_mounts.conf.sample $(SHARED) -type f ! -name '*.pyc' | while read -r file; do \
		mode=644; [ ! -x "$$file" ] || mode=755; \
		install -d "$(DESTDIR)$(DATADIR)/$${file%/*}" && \
		sed -e 's,/usr/local/bin,$(BINDIR),g' -e 's,/usr/local/share/check_mounts,$(DATADIR),g' "$$file" > "$(DESTDIR)$(DATADIR)/$$file" && \
		chmod $$mode "$(DESTDIR)$(DATADIR)/$$file" || exit; \
	done
# What an earlier version had there: this directory is ours.
	cd "$(DESTDIR)$(DATADIR)" && find . ! -type d | while read -r file; do \
		[ -e "$(CURDIR)/$$file" ] || rm -f "$$file" || exit; \
	done
	find "$(DESTDIR)$(DATADIR)" -mindepth 1 -depth -type d -empty -delete
# Other directories belong to others, too. So a list says what is ours there, and the next version
# removes what it does not have.
	{ printf '%s\n' "$(BINDIR)/check_mounts" "$(BASHDIR)/check_mounts" "$(ZSHDIR)/_check_mounts" "$(FISHDIR)/check_mounts.fish"; \
	for page in man/*.[1-9]; do echo "$(MANDIR)/man$${page##*.}/$${page##*/}"; done; } \
		> "$(DESTDIR)$(LIST).new"
	[ ! -e "$(DESTDIR)$(LIST)" ] || grep -Fxv -f "$(DESTDIR)$(LIST).new" "$(DESTDIR)$(LIST)" | while read -r file; do rm -f "$(DESTDIR)$$file" || exit; done
	mv "$(DESTDIR)$(LIST).new" "$(DESTDIR)$(LIST)" && chmod 644 "$(DESTDIR)$(LIST)"
	@$(PYTHON) -I -c 'import nagiosplugin' 2>/dev/null || echo 'check_mounts needs nagiosplugin: apt-get install python3-nagiosplugin'

pyz: $(VENV)/carried  ## the whole program in one file, which needs nothing but Python: dist/check_mounts.pyz
	$(PYTHON) -I tools/pyz.py $(VENV)/carried/nagiosplugin-*.whl dist/check_mounts.pyz
	@ls -l dist/check_mounts.pyz

uninstall:  ## remove what install has installed, and name what stays in /etc
	[ ! -e "$(DESTDIR)$(LIST)" ] || while read -r file; do rm -f "$(DESTDIR)$$file" || exit; done < "$(DESTDIR)$(LIST)"
	rm -rf "$(DESTDIR)$(LIBDIR)" "$(DESTDIR)$(DATADIR)"
# Before there was a list.
	rm -f "$(DESTDIR)$(BINDIR)/check_mounts" "$(DESTDIR)$(MANDIR)/man5/check_mounts.conf.5" "$(DESTDIR)$(MANDIR)/man8/check_mounts.8"
	@$(PYTHON) -I tools/what_stays.py "$(DESTDIR)/etc" "$(BINDIR)/check_mounts" || :

.PHONY: deb rpm rpm-bundled system-deb system-rpm
deb: system-deb  ## packages for Debian and Ubuntu, source and binary: dist/check-mounts_*
	packaging/build-deb.sh $(VERSION)

rpm: system-rpm  ## packages for Fedora, RHEL and openSUSE, source and binary: dist/check_mounts-*.rpm
	packaging/build-rpm.sh $(VERSION)

rpm-bundled: system-rpm $(VENV)/carried  ## the same with nagiosplugin inside: it needs nothing but Python
	WHEELS=$(VENV)/carried packaging/build-rpm.sh $(VERSION) --with bundled

clean:  ## remove what was built here
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# -- set-up, each step once

system-run:
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(APT) update && $(APT) install -y --no-install-recommends python3-venv; }

# Installs the packages of the commands that are missing: $(call system,COMMAND:PACKAGE "COMMAND:PACKAGE PACKAGE" ...)
define system
	@missing=; \
	for need in $(1); do \
		PATH=$$PATH:/usr/sbin:/sbin command -v $${need%%:*} >/dev/null || missing="$$missing $${need#*:}"; \
	done; \
	[ -z "$$missing" ] || { $(APT) update && $(APT) install -y --no-install-recommends $$missing; }
endef

system-test: system-run
	$(call system,strace:strace "cc:gcc libc6-dev" mkfs.xfs:xfsprogs mkfs.ext4:e2fsprogs mkfs.btrfs:btrfs-progs mksquashfs:squashfs-tools mkfs.erofs:erofs-utils mount:mount man:man-db groff:groff-base visudo:sudo systemd-analyze:systemd openssl:openssl dash:dash busybox:busybox shellcheck:shellcheck tmux:tmux zsh:zsh fish:fish)

system-deb:
	$(call system,dpkg-buildpackage:dpkg-dev dh:debhelper dh_python3:dh-python)

# Fedora's dnf knows a command by its path; on openSUSE, rpmbuild is in a package of that name.
system-rpm:
	$(if $(shell command -v apt-get),$(call system,rpmbuild:rpm),@command -v rpmbuild >/dev/null || $(SUDO) dnf install -y rpm-build make || $(SUDO) zypper -n install rpm-build make)

system-fresh: system-deb system-rpm
	$(call system,mmdebstrap:mmdebstrap lintian:lintian)

# The peer.
system-bench:
	@[ -x /usr/lib/nagios/plugins/check_disk ] || { $(APT) update && $(APT) install -y --no-install-recommends monitoring-plugins-basic; }

system-lab:
	@command -v cc >/dev/null || { $(APT) update && $(APT) install -y --no-install-recommends gcc libc6-dev; }

$(VENV)/bin/python: | system-run
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: setup.py pyproject.toml | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check -e .
	@touch $@

# What check_mounts.pyz carries, as it is known by its checksum.
$(VENV)/carried: tools/nagiosplugin.txt | $(VENV)/bin/python
	rm -rf $@
	$(VENV)/bin/python -m pip download -q --disable-pip-version-check --no-deps --require-hashes -r $< -d $@

$(VENV)/test: $(VENV)/run pyproject.toml | system-test $(VENV)/carried
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check -e '.[test]'
	for version in $(LIBRARIES); do \
		$(VENV)/bin/python -m pip install -q --disable-pip-version-check --no-deps --upgrade \
			--target $(VENV)/nagiosplugin-$$version nagiosplugin==$$version || exit; \
	done
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check --no-deps --upgrade \
		--target $(VENV)/prometheus_client-$(OLDEST_PROMETHEUS) prometheus_client==$(OLDEST_PROMETHEUS)
	@touch $@

# These packages are unpacked and not installed: their servers must not start here.
$(VENV)/lab/root: tests/lab/packages.py | $(VENV)/run system-lab
	$(PYTHON) tests/lab/packages.py $(VENV)/lab
	@touch $@

$(VENV)/monitoring/root: tests/lab/packages.py Makefile | $(VENV)/run
	$(PYTHON) tests/lab/packages.py $(VENV)/monitoring $(MONITORING)
# nsca-ng's send_nsca has the same name as nsca-client's.
	$(PYTHON) tests/lab/packages.py $(VENV)/monitoring/nsca-ng nsca-ng-client
	@touch $@

# A Debian like this one, for tests to install things in. Only root can use it.
$(VENV)/fresh/root: tests/fresh/make.py | $(VENV)/run $(if $(SUDO),,system-fresh)
	$(if $(SUDO),@:,$(PYTHON) tests/fresh/make.py $(VENV)/fresh && touch $@)

$(VENV)/versus/root: tests/lab/packages.py | $(VENV)/run
	$(PYTHON) tests/lab/packages.py $(VENV)/versus $(PEERS)
	@touch $@

$(VENV)/lint: $(VENV)/run
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check -e '.[lint]'
	@touch $@
