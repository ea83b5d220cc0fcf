"""pandas: reading CSV, joins, groups, reshaping, text, times, JSON and pickle."""

import hashlib
import io
import random

import pandas as pd
import proof

random.seed(20)
pd.set_option("display.width", 200)

text = "id,when,city,amount,note\n" + "\n".join(
    f"{number},2024-{number % 12 + 1:02}-{number % 28 + 1:02} {number % 24:02}:00,"
    f"{random.choice(['Ulm', 'Köln', 'Łódź', 'São Paulo', '東京'])},{random.randrange(100_000) / 100},"
    f"{'' if number % 17 == 0 else 'note ' * (number % 5)}"
    for number in range(30_000)
)
frame = pd.read_csv(io.StringIO(text), parse_dates=["when"])
print(frame.dtypes, frame.head(3), frame["note"].isna().sum(), sep="\n")

grouped = frame.groupby(["city", frame["when"].dt.month])["amount"].agg(["count", "min", "max", "median"])
print(grouped.head(8), grouped.tail(3), sep="\n")
print(frame.groupby("city")["amount"].apply(lambda amounts: sorted(amounts)[len(amounts) // 3]).to_dict())

cities = pd.DataFrame({"city": ["Ulm", "Köln", "東京", "Oslo"], "people": [126_000, 1_080_000, 13_960_000, 700_000]})
merged = frame.merge(cities, on="city", how="outer", indicator=True)
print(merged["_merge"].value_counts().to_dict(), merged.shape, merged["people"].sum())
print(
    frame.merge(frame[["id", "city"]].iloc[::7], on="id", suffixes=("", "_again"))["city_again"]
    .value_counts()
    .to_dict()
)

pivot = frame.pivot_table(index=frame["when"].dt.day, columns="city", values="amount", aggfunc="max")
print(pivot.round(2).iloc[:5], pivot.stack().sort_values().tail(3), sep="\n")
long = frame.melt(id_vars="id", value_vars=["city", "amount"]).sort_values(["id", "variable"])
print(long.head(4))

daily = frame.set_index("when").sort_index()["amount"].resample("W").count()
print(daily.head(3), frame.set_index("id")["amount"].rolling(50).max().iloc[-3:].tolist(), sep="\n")
words = frame["note"].fillna("nothing").str.strip().str.split().explode()
print(words.value_counts().to_dict(), frame["city"].str.upper().str.len().sum())
frame["kind"] = frame["city"].astype("category")
print(frame["kind"].cat.codes.sum(), frame.duplicated(["city", "amount"]).sum())

for orient in ("records", "columns", "split", "table"):
    encoded = frame.head(2000).to_json(orient=orient, date_format="iso")
    print(orient, len(encoded), hashlib.sha256(encoded.encode()).hexdigest()[:16])
again = pd.read_json(io.StringIO(frame.head(500).to_json(orient="records")), orient="records")
print(again["amount"].sum().round(2), again["city"].tolist() == frame["city"].head(500).tolist())

stream = io.BytesIO()
frame.to_pickle(stream)
stream.seek(0)
print(pd.read_pickle(stream).equals(frame))
csv = frame.to_csv(index=False)
print(len(csv), hashlib.sha256(csv.encode()).hexdigest()[:16])

copies = [frame.sample(2000, random_state=number).reset_index(drop=True) for number in range(30)]
print(pd.concat(copies)["amount"].sum().round(2))

proof.leave()
