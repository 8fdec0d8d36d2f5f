"""A checkpoint whose weights are quantised, as far as its headers tell: what is kept in another form, and where."""

from .base import ConversionError, Tensor


def is_quantised(config: dict) -> bool:
    """Whether a config.json names a way of quantisation."""
    return bool(config.get("quantization_config"))


def refuse_stock(base) -> None:
    """Refuse a quantised checkpoint that is not Circle-RoPE yet, and say in which order the two go.

    Raises:
        ConversionError: always.
    """
    raise ConversionError(
        f"{base} is quantised, and not Circle-RoPE: convert first, quantise then, as in `python push_to_hub.py "
        "UNQUANTISED_BASE --output-dir CONVERTED`, AutoModelForImageTextToText.from_pretrained('CONVERTED', "
        "trust_remote_code=True, quantization_config=...).save_pretrained('QUANTISED'), and `python push_to_hub.py "
        "QUANTISED --repo-id USER/NAME`."
    )


def split(
    found: dict[str, Tensor], wanted: dict[str, tuple[int, ...]], floats: set[str]
) -> tuple[dict[str, Tensor], set[str]]:
    """Part the tensors that are as the architecture has them from those that keep a matrix in another form.

    Every format of transformers keeps a quantised matrix in tensors of the module that it belongs to, whatever their
    names, shapes and dtypes are: `q_proj.weight` and `q_proj.SCB`, `q_proj.weight.absmax`, `q_proj._weight_qdata`.

    Args:
        found: every tensor of a checkpoint, by the name it has in the model.
        wanted: name and shape of every tensor of the architecture.
        floats: the dtypes, as safetensors names them, of a matrix that is not quantised.

    Returns:
        The tensors that are as they are wanted, or not known at all; and the names among `wanted` of the others.
    """
    quantised, storage = set(), set()
    for name, shape in wanted.items():
        if len(shape) != 2 or not name.endswith(".weight"):
            continue
        if name in found and found[name].shape == shape and found[name].dtype in floats:
            continue
        module = name.removesuffix("weight")
        kept = {other for other in found if other.startswith(module)} - (wanted.keys() - {name})
        if kept:
            quantised.add(name)
            storage |= kept
    return {name: tensor for name, tensor in found.items() if name not in storage}, quantised
