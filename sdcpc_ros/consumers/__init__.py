"""Small example nodes that use the masks. They depend only on the topics of the contract."""
