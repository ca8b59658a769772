"""Self-tuning: the language model learns from the data it wrote itself (the last step of Self-Guide, arXiv 2407.12874).

pairs.py   accepted synthetic texts -> (chat, completion) pairs, balanced
tokens.py  a pair -> token numbers, the prompt masked out of the loss
train.py   pairs -> a LoRA adapter in safetensors, by `peft` and `transformers`
store.py   adapters in the warehouse
stage.py   the step `tune`
"""
