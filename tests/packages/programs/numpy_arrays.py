"""numpy: linear algebra, ufuncs, structured and object arrays, sorting, pickling, views that outlive their owner."""

import hashlib
import io
import pickle

import numpy as np
import proof


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


random = np.random.default_rng(20)

# Linear algebra, to the digits that do not depend on how a block is aligned.
matrix = random.normal(size=(200, 200)) + 200 * np.eye(200)
vector = random.normal(size=200)
solution = np.linalg.solve(matrix, vector)
print("solve", np.allclose(matrix @ solution, vector), np.round(solution[:3], 9))
print("eigenvalues", np.round(np.linalg.eigvalsh(matrix + matrix.T)[[0, 99, 199]], 6))
left, singular, right = np.linalg.svd(matrix)
print("svd", np.allclose(left * singular @ right, matrix), round(float(np.linalg.slogdet(matrix)[1]), 6))

# Ufuncs, broadcasting, reductions; integers are exact.
whole = random.integers(-(10**9), 10**9, size=(300, 301))
print("integers", digest(whole * 3 + whole[:1]), digest(np.cumsum(whole, axis=1)), digest(whole[::-2, ::3] // 7))
print(
    "ufuncs",
    digest(np.add.outer(whole[0], whole[1])),
    digest(np.maximum.accumulate(whole)),
    int(np.bitwise_xor.reduce(whole, axis=None)),
)
print("where", digest(np.where(whole > 0, whole, -whole)), digest(np.unique(whole % 97)))

# Structured, string and object arrays; many small Python objects.
people = np.zeros(5000, dtype=[("name", "U12"), ("age", "i4"), ("score", "f8", (3,))])
people["name"] = [f"person {number * 7919 % 5000}" for number in range(5000)]
people["age"] = random.integers(0, 100, 5000)
people["score"] = random.integers(0, 1000, (5000, 3)) / 8
ordered = np.sort(people, order=["age", "name"])
print("structured", ordered[0], ordered[-1], digest(ordered["score"]))
things = np.array([{"number": number, "list": [number] * (number % 9)} for number in range(20_000)], dtype=object)
print("objects", sum(len(each["list"]) for each in things[::-3]), things.reshape(100, 200).T[7, 11])
print("nested", np.array([[1, 2], [3, 4]], dtype=object).tolist(), len(str(whole.tolist())))

# Sorting of every kind.
for kind in ("quicksort", "mergesort", "heapsort"):
    print(kind, digest(np.sort(whole, axis=0, kind=kind)), digest(np.argsort(whole[0], kind="stable")))
print("text", np.sort(people["name"])[[0, 2500, -1]].tolist())

# Through pickle, files and buffers.
for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    again = pickle.loads(pickle.dumps((people, whole, things[:100]), protocol))
    assert (again[0] == people).all() and (again[1] == whole).all() and again[2].tolist() == things[:100].tolist()
stream = io.BytesIO()
np.savez_compressed(stream, people=people, whole=whole)
stream.seek(0)
with np.load(stream) as loaded:
    print("npz", digest(loaded["whole"]), (loaded["people"] == people).all())

# Views keep their owner alive; buffers of Python objects under arrays.
views = [np.arange(number + 10)[number // 2 :: 2] for number in range(3000)]
print("views", sum(int(view.sum()) for view in views))
buffer = bytearray(8 * 10_000)
over = np.frombuffer(buffer, dtype="<i8")
over[:] = np.arange(10_000)
try:
    buffer.extend(b"more")
except BufferError as error:
    print("buffer", type(error).__name__, buffer[80:88].hex())
del over
buffer.extend(b"more")
print("extended", len(buffer))

proof.leave()
