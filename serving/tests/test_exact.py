"""vLLM answers as transformers does: the same greedy tokens, and log-probabilities of prompts and answers to 1e-4."""

import collections
import itertools
from statistics import mean

import pytest
import torch
from vllm import SamplingParams
from vllm.lora.request import LoRARequest

from .cases import (
    GREEDY,
    HALF_TOLERANCE,
    TOLERANCE,
    all_kinds,
    ask,
    check,
    differences,
    largest_difference,
    load,
    picture,
    save_adapter,
)


@pytest.mark.parametrize("block", ["circle", "strategy_3", "mrope", "interleaved"])
def test_every_block_answers_as_transformers_does(block, checkpoint, start):
    engine = start(checkpoint(block))
    cases = all_kinds()
    outputs = engine.generate([case.request for case in cases], GREEDY, use_tqdm=False)
    check(load(checkpoint(block)), cases, outputs)


def test_a_block_that_is_overridden_answers_as_the_merged_one(checkpoint, start):
    directory, given = checkpoint("interleaved"), {"AGE_mode": "strategy_3", "radius": 3}
    engine, model, cases = start(directory, hf_overrides={"circle_rope": given}), load(directory), all_kinds()[1:4]
    model.set_circle_rope({**model.config.circle_rope, **given})
    check(model, cases, engine.generate([case.request for case in cases], GREEDY, use_tqdm=False))


@pytest.mark.parametrize(
    "block, wrong", [("circle", "mrope"), ("strategy_4", "strategy_3"), ("mrope", "circle")], ids=lambda name: name
)
def test_half_precision_is_as_near_as_that_of_mrope(block, wrong, checkpoint, start):
    """What bfloat16 rounds is as little under every block, and far less than what a wrong geometry does."""
    engine = start(checkpoint(block), dtype="bfloat16")
    cases = all_kinds()[1:]
    outputs = engine.generate([case.request for case in cases], GREEDY, use_tqdm=False)
    right, other = load(checkpoint(block)), load(checkpoint(wrong))
    for case, output in zip(cases, outputs):
        assert mean(differences(right, case, output)) < HALF_TOLERANCE < 0.3 < mean(differences(other, case, output))


def test_requests_that_were_preempted_and_computed_again(checkpoint, start):
    engine = start(
        checkpoint("strategy_2"), max_model_len=400, num_gpu_blocks_override=14, block_size=32, disable_log_stats=False
    )
    cases = all_kinds()[1:] + all_kinds()[1:3]
    sampling = SamplingParams(temperature=0, max_tokens=100, ignore_eos=True, logprobs=1)
    outputs = engine.generate([case.request for case in cases], sampling, use_tqdm=False)
    [preemptions] = [metric.value for metric in engine.get_metrics() if metric.name == "vllm:num_preemptions"]
    assert preemptions > 0
    check(load(checkpoint("strategy_2")), cases, outputs)


@pytest.fixture(scope="module")
def engine(checkpoint, start):
    """AGE with what cuts or reuses a prompt: chunks of 48 tokens, and a prefix cache."""
    return start(checkpoint("strategy_4"), max_num_batched_tokens=48, enable_prefix_caching=True, block_size=32)


@pytest.fixture(scope="module")
def model(checkpoint):
    return load(checkpoint("strategy_4"))


def answer(engine, cases, sampling=GREEDY, **options):
    return engine.generate([case.request for case in cases], sampling, use_tqdm=False, **options)


def test_generate_of_transformers_gives_the_same_tokens(engine, model):
    for case in all_kinds()[:3]:
        [output] = answer(engine, [case])
        expected = model.generate(**case.inputs, max_new_tokens=80, eos_token_id=-1, do_sample=False)
        assert list(output.outputs[0].token_ids) == expected[0, case.inputs["input_ids"].shape[1] :].tolist()


def test_a_batch_of_all_kinds(engine, model):
    cases = all_kinds()
    check(model, cases, answer(engine, cases))


def test_a_prompt_whose_chunks_cut_a_picture(engine, model):
    # 10 x 14 tokens of the picture do not fit into the 48 tokens of a step.
    case = ask(picture(392, 280))
    assert case.slots_of_pictures[[0, -1]].diff().item() == 139
    check(model, [case], answer(engine, [case]))


def test_requests_that_arrive_while_others_decode(engine, model):
    cases = [ask(picture(112 + 28 * number, 140), question="Where? " * (1 + number % 3)) for number in range(6)]
    waiting, outputs, steps = list(enumerate(cases)), {}, 0
    inner = engine.llm_engine
    while waiting or inner.has_unfinished_requests():
        if waiting and steps % 7 == 0:
            number, case = waiting.pop(0)
            inner.add_request(str(number), case.request, GREEDY)
        outputs.update((int(output.request_id), output) for output in inner.step() if output.finished)
        steps += 1
    check(model, cases, [outputs[number] for number in range(len(cases))])


def test_two_questions_about_one_picture_share_what_is_cached(engine, model):
    # Log-probabilities of the prompt would have it computed anew.
    sampling = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True, logprobs=1)
    cases = [
        ask(picture(196, 196), question=question) for question in ("Where is it?", "Which shapes are there? " * 3)
    ]
    outputs = [answer(engine, [case], sampling)[0] for case in cases]
    assert outputs[1].num_cached_tokens >= 32
    check(model, cases, outputs)


def test_a_picture_whose_tokens_are_partly_cached(engine, model):
    sampling = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True, logprobs=1)
    case = ask(picture(336, 196), question="What is it?")
    outputs = [answer(engine, [case], sampling)[0] for _ in range(2)]
    assert case.slots_of_pictures[0] < outputs[1].num_cached_tokens < case.slots_of_pictures[-1]
    check(model, [case] * 2, outputs)


def test_several_samples_of_one_prompt(engine, model):
    case = ask(picture(140, 140), picture(84, 84))
    sampling = SamplingParams(n=4, temperature=2, max_tokens=60, ignore_eos=True, logprobs=1)
    [output] = answer(engine, [case], sampling)
    assert len({tuple(sample.token_ids) for sample in output.outputs}) == 4
    for number in range(4):
        assert largest_difference(model, case, output, of=number) < TOLERANCE


def test_an_adapter(start, model, checkpoint, tmp_path):
    adapted = save_adapter(tmp_path, checkpoint("strategy_4"))
    cases = all_kinds()[1:4]
    sampling = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True, logprobs=1, prompt_logprobs=0)
    engine = start(checkpoint("strategy_4"), enable_lora=True, max_lora_rank=8)
    outputs = answer(engine, cases, sampling, lora_request=LoRARequest("adapter", 1, str(tmp_path)))
    assert min(largest_difference(model, case, output) for case, output in zip(cases, outputs)) > 0.1
    check(adapted, cases, outputs)


def test_embeddings(start, model, checkpoint):
    engine, cases = start(checkpoint("strategy_4"), runner="pooling", convert="embed"), all_kinds()
    outputs = engine.embed([case.request for case in cases], use_tqdm=False)
    for case, output in zip(cases, outputs):
        with torch.no_grad():
            expected = model.model(**case.inputs).last_hidden_state[0, -1]
        given = torch.tensor(output.outputs.embedding)
        torch.testing.assert_close(given, torch.nn.functional.normalize(expected, dim=0), atol=1e-5, rtol=0)


def table_of(engine):
    """The table of deltas in the engine's model."""
    [table] = engine.apply_model(lambda model: model.language_model.model.geometry_embeddings.deltas)
    return table


def test_places_are_used_again(engine, model, monkeypatch):
    answer(engine, [ask()])  # what finished before is gone with the next step
    table = table_of(engine)
    free = collections.deque(list(table._free)[:9])
    monkeypatch.setattr(table, "_free", free)
    cases = [ask(picture(56 + 28 * (number % 9), 56 + 28 * (number // 9))) for number in range(36)]
    short = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True, logprobs=1)
    check(model, cases, answer(engine, cases, short))
    answer(engine, [ask()])
    assert len(free) >= 8


def test_a_wrong_delta_is_noticed(engine, model, monkeypatch):
    table, case = table_of(engine), ask(picture(168, 140))
    take = table.take
    monkeypatch.setattr(table, "take", lambda deltas: take((deltas[0], deltas[1] + 1)))
    [output] = answer(engine, [case])
    assert largest_difference(model, case, output) > 10 * TOLERANCE


def test_weights_that_a_trainer_sends(start, checkpoint):
    torch.manual_seed(0)
    trained = load(checkpoint("circle"))
    engine = start(checkpoint("circle"))
    answer(engine, [ask(picture(140, 168))])
    for name, parameter in trained.named_parameters():
        if "embed_tokens" not in name:  # of a head tied to it, the CPU engine keeps a packed copy
            parameter.data += 0.02 * torch.randn_like(parameter)
    engine.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(trained.named_parameters())})
    engine.reset_prefix_cache()
    case = ask(picture(168, 140))
    check(trained, [case], answer(engine, [case]))


def test_weights_that_are_sent_while_requests_run(engine, model):
    cases, inner, outputs = all_kinds()[1:4], engine.llm_engine, {}
    for number, case in enumerate(cases):
        inner.add_request(str(number), case.request, GREEDY)
    for step in itertools.count():
        if step == 20:
            engine.collective_rpc("reload_weights", kwargs={"weights_iterator": model.named_parameters()})
        outputs.update((int(output.request_id), output) for output in inner.step() if output.finished)
        if not inner.has_unfinished_requests():
            break
    assert step > 20
    check(model, cases, [outputs[number] for number in range(len(cases))])
