/*
 * For LD_PRELOAD under linux.uml: lets it restore the floating-point registers of a guest process on processors with AMX.
 *
 * User-mode Linux 6.1 keeps 2,696 bytes of them, which was all there was before AMX. PTRACE_SETREGSET takes the whole area or
 * nothing (xstateregs_set in arch/x86/kernel/fpu/regset.c fails with EFAULT), so the guest's first process dies: "ptrace set fp regs
 * failed, errno = 14". Here the rest of the area is filled with what the process has already.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define NT_X86_XSTATE 0x202

static long call(long request, long pid, void *address, void *data)
{
	return syscall(SYS_ptrace, request, pid, address, data);
}

static long set_xstate(long pid, void *address, struct iovec *given)
{
	static unsigned char area[1 << 16] __attribute__((aligned(64)));
	struct iovec whole = { area, sizeof area };

	if (call(PTRACE_GETREGSET, pid, address, &whole) < 0 || given->iov_len >= whole.iov_len)
		return call(PTRACE_SETREGSET, pid, address, given);
	memcpy(area, given->iov_base, given->iov_len);
	return call(PTRACE_SETREGSET, pid, address, &whole);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list list;
	long pid, word;
	void *address, *data;

	va_start(list, request);
	pid = va_arg(list, long);
	address = va_arg(list, void *);
	data = va_arg(list, void *);
	va_end(list);
	if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE)
		return set_xstate((int)pid, address, data);
	if (request < PTRACE_PEEKTEXT || request > PTRACE_PEEKUSER)
		return call(request, (int)pid, address, data);
	/* The C library returns the word itself (ptrace(2), "C library/kernel differences"). */
	if (call(request, (int)pid, address, &word) < 0)
		return -1;
	errno = 0;
	return word;
}
