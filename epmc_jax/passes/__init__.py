"""From a function to the residuals it stores, and to the two programs that do it.

`program` traces forward and backward pass into one list of operations,
`rewrites` applies the rules for single layers, `exactness` says which values may be
lossy, `cut` chooses the stored set, `selection` puts these together, `execution`
runs the result in an order that keeps memory low.
"""
