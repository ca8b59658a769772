"""Retrieval: passages embedded per second, index build, queries per second and memory at a million generated vectors.

Beside faiss flat (exact, the same BLAS threads); BM25 beside rank-free scoring by scikit-learn's sparse TF-IDF product.
Run: python tests/benchmarks/retrieval.py [--quick] [--only REGEX]
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _harness import Options, Row, Skip, case, compare, main, row

DIMENSION = 384
K = 50
CHUNK = 65_536


def generated(n: int, seed: int = 0) -> np.ndarray:
    """Clustered unit vectors, float32 [n, 384]: 1,000 centres with noise, so that neighbours exist."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((1000, DIMENSION), np.float32)
    out = np.empty((n, DIMENSION), np.float32)
    for start in range(0, n, 50_000):
        stop = min(start + 50_000, n)
        part = centres[rng.integers(0, 1000, stop - start)] + 0.7 * rng.standard_normal(
            (stop - start, DIMENSION), np.float32
        )
        out[start:stop] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return out


def sizes(options: Options) -> tuple[int, int]:
    return (100_000, 32) if options.quick else (1_000_000, 64)


@case("dense_exact_search")
def dense_exact(options: Options) -> list[Row]:
    """Queries per second of the exact index, from memory, beside faiss flat."""
    faiss = _faiss()
    from factory.retrieval import Hits, search_chunks

    n, q = sizes(options)
    vectors = generated(n)
    queries = vectors[np.random.default_rng(1).integers(0, n, q)] + 0.01

    def ours() -> Hits:
        return search_chunks(queries, (vectors[at : at + CHUNK] for at in range(0, n, CHUNK)), K)

    flat = faiss.IndexFlatIP(DIMENSION)
    flat.add(vectors)
    mine, theirs = ours(), flat.search(queries, K)
    same = float(np.mean([len(set(a) & set(b)) / K for a, b in zip(mine.positions, theirs[1], strict=True)]))
    measured = compare(
        lambda: _rate(q, ours),
        {"faiss.IndexFlatIP": lambda: _rate(q, lambda: flat.search(queries, K))},
        rounds=3 if options.quick else 5,
    )
    facts = {"n": n, "dimension": DIMENSION, "k": K, "queries": q, "agreement": same}
    return measured.rows("dense_exact_search", unit="queries/s", **facts)


@case("dense_memory")
def dense_memory(options: Options) -> Row:
    """Peak memory of a process that searches a memory-mapped file, beside one that holds faiss flat."""
    _faiss()
    n, q = sizes(options)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        np.save(path, generated(n))
        ours = _peak_mb(
            f"from factory.retrieval import search_chunks; import numpy as np;"
            f"v = np.load({str(path)!r}, mmap_mode='r');"
            f"search_chunks(np.array(v[:{q}]), (v[at:at + 16384] for at in range(0, len(v), 16384)), {K})"
        )
        theirs = _peak_mb(
            f"import faiss, numpy as np; v = np.load({str(path)!r}, mmap_mode='r'); i = faiss.IndexFlatIP({DIMENSION});"
            f"[i.add(np.ascontiguousarray(v[s:s + 65536])) for s in range(0, len(v), 65536)]; i.search(np.array(v[:{q}]), {K})"
        )
    return row(
        "dense_memory", ours, theirs, peer_name="faiss.IndexFlatIP", unit="MB anonymous memory", smaller_is_better=True, n=n,
        dimension=DIMENSION, note="anonymous memory; pages of the mapped file are the kernel's to drop",
    )  # fmt: skip


@case("lexical")
def lexical(options: Options) -> list[Row]:
    """BM25 over AG News training texts: build and queries, beside scikit-learn's TF-IDF product."""
    import pyarrow.parquet as pq
    from sklearn.feature_extraction.text import TfidfVectorizer

    from factory.retrieval import LexicalIndex

    texts = pq.read_table(options.data / "agnews" / "train.parquet")["text"].to_pylist()
    texts = texts[:5000] if options.quick else texts
    queries = texts[:64]
    began = time.perf_counter()
    index = LexicalIndex(texts)
    build = time.perf_counter() - began
    began = time.perf_counter()
    vectorizer = TfidfVectorizer(stop_words="english")
    matrix = vectorizer.fit_transform(texts)
    theirs_build = time.perf_counter() - began

    def theirs() -> None:
        scores = (vectorizer.transform(queries) @ matrix.T).toarray()
        np.argpartition(scores, -K, axis=1)[:, -K:]

    measured = compare(
        lambda: _rate(len(queries), lambda: index.search(queries, K)),
        {"scikit-learn TF-IDF": lambda: _rate(len(queries), theirs)},
        rounds=3,
    )
    return [
        *measured.rows("lexical_search", unit="queries/s", n=len(texts), k=K),
        row(
            "lexical_build",
            build,
            theirs_build,
            peer_name="scikit-learn TF-IDF",
            unit="s",
            smaller_is_better=True,
            n=len(texts),
        ),
    ]


@case("embedding")
def embedding(options: Options) -> Row:
    """Passages embedded per second by the packaged MiniLM into the warehouse, beside sentence-transformers' own loop."""
    import pyarrow.parquet as pq

    from factory.encoders.encoder import load_encoder
    from factory.encoders.torch_model import load_sentence_transformer
    from factory.encoders.vectors import vectors_of
    from factory.warehouse.file import Warehouse
    from factory.warehouse.tables.texts import add_texts

    encoder = load_encoder("auto")
    if encoder.folder is None:
        raise Skip("no sentence encoder is at hand")
    n = 256 if options.quick else options.extra.get("passages") or 20_000
    texts = pq.read_table(options.data / "agnews" / "train.parquet")["text"].to_pylist()[:n]
    peers = texts[: min(n, 1024)]
    encoder.encode(texts[:32])
    warehouse = Warehouse.memory()
    with warehouse.lease() as db:
        numbers = add_texts(db, texts, "passage")
    began = time.perf_counter()
    vectors_of(warehouse, encoder, numbers)
    ours = n / (time.perf_counter() - began)
    model = load_sentence_transformer(encoder.folder)
    model.encode(texts[:32])
    began = time.perf_counter()
    model.encode(peers, batch_size=32, normalize_embeddings=True, show_progress_bar=False)
    theirs = len(peers) / (time.perf_counter() - began)
    began = time.perf_counter()
    vectors_of(warehouse, encoder, numbers)
    again = time.perf_counter() - began
    return row(
        "embedding", ours, theirs, peer_name="SentenceTransformer.encode", unit="passages/s", n=n, peer_n=len(peers),
        again_s=round(again, 3), note="ours stores every block in the warehouse as it goes; again_s reads all of them back",
    )  # fmt: skip


def _faiss():  # type: ignore[no-untyped-def]
    try:
        import faiss
    except ImportError as error:
        raise Skip("faiss is not installed") from error
    faiss.omp_set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    return faiss


def _rate(count: int, work) -> float:  # type: ignore[no-untyped-def]
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def _peak_mb(code: str) -> float:
    """The most anonymous memory that a process running `code` held, in MB, sampled every 20 ms."""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[2])
    peak = 0.0
    while process.poll() is None:
        try:
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("RssAnon"):
                    peak = max(peak, int(line.split()[1]) / 1024)
        except OSError:
            pass
        time.sleep(0.02)
    if process.returncode:
        raise Skip(
            f"the process ended with {process.returncode} (peak of ours {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss})"
        )
    return round(peak, 1)


if __name__ == "__main__":
    main(__doc__, lambda parser: parser.add_argument("--passages", type=int, help="of the case `embedding` (20,000)"))
