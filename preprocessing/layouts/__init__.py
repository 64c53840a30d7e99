"""One writer per official on-disk layout, for the miniature.

Every module offers ``write(root, split, worlds)``: it writes the worlds of one split under the dataset's
root, in the files and encodings the dataset's authors ship.
"""
