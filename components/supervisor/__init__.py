"""The command of every step on a cluster: starts the step's work as a child and sees it to its end.

Kubeflow never restarts a step that crashed (Argo retries lost pods only), tells no reason of an
end, and fails a whole run when its object store is away just as a step ends. So each pod looks
after its own work:

- `children`   the child process: signals are forwarded, its end is read
- `memory`     the container's memory limit: an end for memory is told apart, or prevented
- `restarts`   how often a crashed child is started again, and after which pause
- `state`      the step's state: a folder of a volume, or a copy of what lies in an object store
- `artifact_store`  waits until the store that takes the outputs answers
- `supervise`  all of these together, for one step

Nothing here imports torch, kfp or mlflow: the supervisor must be small, or the kernel would pick it
when memory runs out.
"""
