"""Linear algebra on adapter files: on their factors, layer by layer, without torch and without a base.

    factors    which keys of a file make up a layer, and its change as a product of two matrices
    small_svd  the singular values and vectors of such a product, at the cost of its rank
    store      writing files as large as wanted, with true hashes and their lineage
    blocks     the block of the model that a layer belongs to
    resize, merge, extract, scale          files in, files out
    inspect, spectrum, picture, overlap    what a file holds, and how two go together

A change of (out, in) is up @ down; a convolution's is (out, in * kernel height * kernel width), as its weight lies.
"""
