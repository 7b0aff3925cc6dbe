"""S3: data sources (`remote`), and files that are brought there and back (`objects`).

boto3 is imported by `client` alone, and that only when something is read or written.
"""
