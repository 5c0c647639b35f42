"""Studies: many specs, each a run in its own folder, on this machine or a cluster.

`plan` reads words or a file as points, `study` is the folder that remembers them, `drive` runs what is not done yet
by one of the `executors`. The truth about a point is its own run folder.
"""
