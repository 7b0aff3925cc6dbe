"""State of runs that outlives a pod: in an object store, or in a folder of a mounted volume.

- `reference`     where it lies: `pvc:NAME` or `s3://BUCKET/PREFIX`
- `object_store`  one step's state in an object store: pulled and pushed
- `manifest`      the object that names all files of a state, and what is wrong with one
- `contents`      the objects with what is in the files, uploaded and removed
- `pulling`       the files of a manifest, brought into a local folder
- `snapshot`      the files of a local state folder as they were at one moment
- `schedule`      when the next push is due
- `checks`        whether a place can be written, read and cleaned up
- `marker`        the file that says that a folder on a volume is the state of a run
- `cleaning`      old states, found and removed
"""
