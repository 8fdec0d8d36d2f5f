"""Answers of an engine in a process of its own, for what a whole process shares: how to compile, over how many ranks.

    python -m serving.tests.answers DIRECTORY OPTIONS_AS_JSON CASES SAMPLING_AS_JSON OUTPUT

CASES picks from `all_kinds()`, such as `1:4`. Written are the token ids and log-probabilities of every answer.
"""

import json
import sys

from vllm import LLM, SamplingParams

from .cases import MEDIA, all_kinds


def main():
    directory, options, picked, sampling, output = sys.argv[1:]
    common = {"max_model_len": 512, "max_num_seqs": 4, "dtype": "float32", "seed": 0}
    memory = {"gpu_memory_utilization": 0.02, "kv_cache_memory_bytes": 1 << 26}
    engine = LLM(directory, **{**common, **memory, **MEDIA, **json.loads(options)})
    requests = [case.request for case in all_kinds()[slice(*map(int, picked.split(":")))]]
    sampling = SamplingParams(temperature=0, ignore_eos=True, logprobs=0, **json.loads(sampling))
    answers = []
    for result in engine.generate(requests, sampling, use_tqdm=False):
        [completion] = result.outputs
        given = [place[token].logprob for place, token in zip(completion.logprobs, completion.token_ids)]
        answers.append([list(completion.token_ids), given])
    with open(output, "w") as file:
        json.dump(answers, file)


if __name__ == "__main__":
    main()
