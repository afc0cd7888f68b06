"""Print the completion of a shell: ``completion.py bash`` prints what the program prints with
``--completion bash``, before it is installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from check_mounts import completion

if __name__ == "__main__":
    sys.stdout.buffer.write(completion.script(sys.argv[1]).encode("utf-8"))
