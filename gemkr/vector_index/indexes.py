"""Indexes over document vectors: the names that a section `index` of a dense retriever may have.

Such a class is built by `from_config(config, vectors, folder)`; one that is learned also has `prepare(config, vectors, folder)`,
which writes it into the folder of its vectors.
"""

from gemkr.config.kinds import Role

INDEXES = Role(
    "vector index",
    "search",
    {
        "exact": "gemkr.vector_index.exact:ExactIndex",
        "ivf": "gemkr.vector_index.faiss_index:IVFIndex",
        "pq": "gemkr.vector_index.faiss_index:PQIndex",
    },
)
"""Short names of kinds -> "module:Class"."""
