"""The card of a trainer's `push_to_hub` says what push_to_hub.py's says: block, schedule, how to load, how to cite."""

from pathlib import Path

from huggingface_hub import ModelCard

from .blocks import circle_rope_model, complete_card


def own_card(trainer):
    """Let a trainer's card, which it writes whenever it pushes, hold the part on Circle-RoPE behind its own text.

        trainer = own_card(Trainer(model, args, ...))
        trainer.train()
        trainer.push_to_hub()

    Args:
        trainer: any `Trainer`, TRL's and ms-swift's among them, of a Circle-RoPE model or an adapter on one.

    Returns:
        The same trainer.

    Raises:
        ValueError: no Circle-RoPE model.
    """
    model, upstream = circle_rope_model(trainer.model), trainer.create_model_card

    def create_model_card(*args, **kwargs):
        upstream(*args, **kwargs)
        if trainer.is_world_process_zero():
            folder = Path(trainer.args.output_dir)
            path = folder / "README.md"
            complete_card(path, trainer.hub_model_id or folder.name, model.config)
            # TRL links to a base that is a folder by a name that it has not.
            base = ModelCard.load(path).data.get("base_model")
            link = f"[{base}](https://huggingface.co/{base})" if base else "a Qwen2.5-VL checkpoint"
            text = path.read_text(encoding="utf-8").replace("[None](https://huggingface.co/None)", link)
            path.write_text(text, encoding="utf-8")

    trainer.create_model_card = create_model_card
    return trainer
