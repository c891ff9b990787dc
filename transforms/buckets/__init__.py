"""Object stores: what a uri names, the store behind it, its errors in plain words, and its bytes.

Nothing outside `transforms.storage` and `transforms.places` needs to know of it.
"""
