"""The original's training objective with its defects, for parity and for continuing its training.

Chosen by ``ModelConfig.reference_compat``. It follows the released code draw by draw and term by term, also
where that is wrong or wasteful: it loops over objects and layers, and waits for the device. The objective
that is used otherwise mends all of that.
"""
