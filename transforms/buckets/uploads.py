"""Uploads in parts that died: invisible in every listing, and paid for until somebody gives them up. S3 alone has them.

Google and Azure drop what was never completed by themselves, after a week.
"""

from datetime import UTC, datetime

from transforms.buckets.faults import Away
from transforms.buckets.names import split
from transforms.buckets.stores import s3_client


def give_up_uploads(folder: str, until_ns: int) -> int:
    """Give up the uploads below `folder` that were begun before a time in ns; return how many. Raises `Away`."""
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, key = split(folder)
    if bucket.scheme != "s3":
        return 0
    until = datetime.fromtimestamp(until_ns / 1e9, UTC)
    given_up = 0
    try:
        client = s3_client()
        pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket.name, Prefix=f"{key.strip('/')}/")
        for upload in (each for page in pages for each in page.get("Uploads", ())):
            if upload["Initiated"] < until:
                client.abort_multipart_upload(Bucket=bucket.name, Key=upload["Key"], UploadId=upload["UploadId"])
                given_up += 1
    except (BotoCoreError, ClientError, ValueError) as error:
        raise Away(f"cannot look for dead uploads in {folder}: {error}", may_pass=True) from None
    return given_up
