"""The command of every step on a cluster: runs the step's work as a child process.

Kubeflow never restarts a step that crashed (Argo retries only lost pods), reports no reason of an
end, and fails a whole run when its object store is unreachable as a step ends. So the supervisor in
each pod does it:

- `children`   the child process: signals are forwarded, its end is read
- `memory`     the container's memory limit: an end for memory is recognized, or prevented
- `restarts`   how often a crashed child is started again, and after which pause
- `state`      the step's state: a folder of a volume, or a copy of the state in an object store
- `artifact_store`  waits until the store of the outputs answers
- `supervise`  all of these together, for one step

No module here imports torch, kfp or mlflow: the supervisor must be small, or the kernel would pick
it when memory runs out.
"""
