"""S3: data sources (`remote`), exported files (`outputs`, `bucket`), and single objects.

`objects` lists and reads, `downloads` copies to files, `writing` writes and removes, `write_checks`
finds out what a store takes; `connection` makes a client, `client` waits for an unreachable server,
`answers` and `s3_errors` say what an error means. boto3 takes a third of a second to
import: only these load it, and only when something is read or written.
"""
