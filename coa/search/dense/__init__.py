"""Search passages by the vectors that a model computes of them: the engine `dense`."""
