"""Reads every byte that dvc.lock and the cache vouch for, as dvc itself asks only size, time and inode.

recorded    what dvc.lock, .dvc files and the cache say of raw data, outs and objects
hashes      what the files hold: read and hashed in several threads
findings    where the two differ, and how to mend it
"""
