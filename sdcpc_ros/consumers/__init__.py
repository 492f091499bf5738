"""Small nodes that live on the masks, as examples to build on: they know the topics of the contract and no more."""
