"""S3: data sources (`remote`), exported files (`outputs`, `bucket`), and single objects.

`objects` lists and reads, `downloads` copies to files, `writing` writes and removes; `client` waits
for an unreachable server, `s3_errors` says what an error means. boto3 takes a third of a second to
import: only these load it, and only when something is read or written.
"""
