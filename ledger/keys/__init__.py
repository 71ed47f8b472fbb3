"""The signing keys of sites: sealed in files, introduced, rotated and retired by entries that the root key signs."""
