"""`python3 -m components.supervisor kfp.dsl.executor_main --function_to_execute STEP ...`.

The arguments are those of kfp's executor, which this replaces; its name stands first since kfp's
local runner starts nothing without it. Outside a pod, where `NAS_RESTARTS` is not set, the work
runs in this process, or in a fork of the server that `NAS_FORK_SERVER` names.
"""

import argparse
import os
import sys

from components import fork_client
from components.variables import RESTARTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m components.supervisor")
    parser.add_argument("executor", help="the module of kfp that this stands in for")
    parser.add_argument("--function_to_execute", required=True, help="name of the step")
    parser.add_argument("--executor_input", required=True, help="JSON, from KFP's launcher")
    arguments = parser.parse_args()
    work = [arguments.function_to_execute, "--executor_input", arguments.executor_input]
    command = [sys.executable, "-m", "components.execute", *work]
    if RESTARTS not in os.environ:
        status = fork_client.run(work) if fork_client.VARIABLE in os.environ else None
        if status is not None:
            return status
        os.execv(command[0], command)
    from components.supervisor.supervise import supervise

    return supervise(arguments.function_to_execute, command, arguments.executor_input)


if __name__ == "__main__":
    sys.exit(main())
