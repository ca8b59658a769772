"""From model answers to a small classifier with the libraries alone: the script that one writes without a factory.

python glue_script.py URL DATA PROMPTS OUT
"""

import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
from datasets import Dataset
from openai import OpenAI
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.metrics import accuracy_score, f1_score
from snorkel.labeling import LabelingFunction, LFAnalysis, PandasLFApplier, filter_unlabeled_dataframe
from snorkel.labeling.model import LabelModel

URL, DATA, PROMPTS, OUT = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
ENCODER = os.environ.get("ENCODER", "sentence-transformers/all-MiniLM-L6-v2")
MAX_STEPS = int(os.environ.get("MAX_STEPS", "150"))
PER_LABEL = 64
ABSTAIN = -1

OUT.mkdir(parents=True, exist_ok=True)
client = OpenAI(base_url=URL, api_key="none", max_retries=5, timeout=120)
prompts = [json.loads(line) for line in PROMPTS.read_text().splitlines()]


def ask(prompt):
    answer = client.chat.completions.create(
        model="served",
        messages=prompt["messages"],
        temperature=prompt["temperature"],
        max_tokens=prompt["max_tokens"],
        seed=prompt["seed"],
    )
    return answer.choices[0].message.content


def answers_for(step):
    """The answers to all prompts of a step, kept in a file so that a second run need not pay for them again."""
    file = OUT / f"{step}.json"
    if file.exists():
        return json.loads(file.read_text())
    with ThreadPoolExecutor(max_workers=16) as pool:
        answers = list(pool.map(ask, [prompt for prompt in prompts if prompt["step"] == step]))
    file.write_text(json.dumps(answers))
    return answers


def load(split):
    frame = pd.read_parquet(DATA / f"{split}.parquet")
    if "exemplar" in frame:
        frame = frame[~frame["exemplar"].fillna(False).astype(bool)]
    return frame


test = load("test")
train = load("train").drop_duplicates("text")
train = train[~train["text"].isin(test["text"])].reset_index(drop=True)[["text"]]
labels = sorted(test["label"].unique())
number = {name: at for at, name in enumerate(labels)}


# 1. Programs
def compile_program(answer):
    found = re.search(r"```(?:python)?\n(.*?)```", answer, re.DOTALL)
    if found is None:
        return None
    names = {}
    try:
        exec(found[1], names)
    except Exception as error:
        print("a program does not compile:", error, file=sys.stderr)
        return None
    return names.get("label")


def as_lf(at, function):
    def vote(row):
        try:
            return number.get(function(row.text), ABSTAIN)
        except Exception:
            return ABSTAIN

    return LabelingFunction(name=f"program_{at}", f=vote)


programs = [compile_program(answer) for answer in answers_for("author")]
lfs = [as_lf(at, function) for at, function in enumerate(programs) if callable(function)]

# 2. Synthetic texts
synthetic = []
wanted = [prompt["label"] for prompt in prompts if prompt["step"] == "synthesize"]
for label, answer in zip(wanted, answers_for("synthesize"), strict=True):
    for text in re.findall(r"<text>(.*?)</text>", answer, re.DOTALL):
        if text.strip():
            synthetic.append({"text": text.strip(), "label": number[label]})
synthetic = pd.DataFrame(synthetic, columns=["text", "label"]).astype({"label": int}).drop_duplicates("text")
synthetic = synthetic[~synthetic["text"].isin(test["text"])]

# The model's own labels of the test texts, for comparison
said = {}
asked = [prompt["text"] for prompt in prompts if prompt["step"] == "annotate"]
for text, answer in zip(asked, answers_for("annotate"), strict=True):
    said[text] = answer.strip().strip(".\"'")
teacher = [said.get(text, "") for text in test["text"]]

# 3. Votes and probabilistic labels
votes = PandasLFApplier(lfs).apply(train, progress_bar=False)
LFAnalysis(votes, lfs).lf_summary().to_csv(OUT / "lf_summary.csv")
label_model = LabelModel(cardinality=len(labels), verbose=False)
label_model.fit(votes, n_epochs=500, seed=0)
covered, probs = filter_unlabeled_dataframe(X=train, y=label_model.predict_proba(votes), L=votes)
covered = covered.assign(label=probs.argmax(axis=1), confidence=probs.max(axis=1))
covered = covered[covered["confidence"] > 1.01 / len(labels)]

# 4. The student: SetFit on a sample of each label and the synthetic texts, its head on everything
sample = covered.groupby("label").sample(frac=1, random_state=0).groupby("label").head(PER_LABEL)
few = pd.concat([sample[["text", "label"]], synthetic], ignore_index=True)
everything = pd.concat([covered[["text", "label"]], synthetic], ignore_index=True)
model = SetFitModel.from_pretrained(ENCODER, labels=labels)
arguments = TrainingArguments(
    output_dir=str(OUT / "checkpoints"), batch_size=16, max_steps=MAX_STEPS, save_strategy="no", seed=0
)
arguments.report_to = "none"
trainer = Trainer(model=model, args=arguments, train_dataset=Dataset.from_pandas(few, preserve_index=False))
trainer.train()
model.fit(everything["text"].tolist(), everything["label"].tolist(), num_epochs=1)
model.save_pretrained(str(OUT / "student"))

# 5. Its score
predicted = [str(label) for label in model.predict(test["text"].tolist(), use_labels=True)]
print(
    json.dumps(
        {
            "accuracy": accuracy_score(test["label"], predicted),
            "macro_f1": f1_score(test["label"], predicted, average="macro"),
            "teacher": accuracy_score(test["label"], teacher),
            "n": len(test),
            "programs": len(lfs),
            "synthetic": len(synthetic),
            "covered": len(covered),
        }
    )
)
