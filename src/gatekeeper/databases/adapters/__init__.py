"""One file or folder per outside system; only `bootstrap` may import these."""
