"""Every word that the Space shows, in English and Chinese."""

LANGUAGES = {"en": "English", "zh": "中文"}

GEOMETRY_NAMES = {
    "mrope": ("M-RoPE", "M-RoPE"),
    "circle": ("Circle-RoPE (strategy_1)", "Circle-RoPE（strategy_1）"),
    "strategy_2": ("AGE strategy_2", "AGE strategy_2"),
    "strategy_3": ("AGE strategy_3", "AGE strategy_3"),
    "strategy_4": ("AGE strategy_4", "AGE strategy_4"),
    "own": ("AGE, the model's own schedule", "AGE，模型自带的策略"),
}
SCHEDULE_WORDS = {
    "mrope": ("every layer M-RoPE", "每层都是 M-RoPE"),
    "circle": ("every layer circle", "每层都是圆环"),
    "strategy_2": ("first half circle, rest M-RoPE", "前一半圆环，其余 M-RoPE"),
    "strategy_3": ("first half M-RoPE, rest circle", "前一半 M-RoPE，其余圆环"),
    "strategy_4": ("circle and M-RoPE in turn", "圆环与 M-RoPE 交替"),
    "own": ("a list in the model's config", "模型配置中的列表"),
}

TEXTS = {
    # the page
    "title": ("Circle-RoPE", "Circle-RoPE"),
    "intro": (
        "[Circle-RoPE](https://arxiv.org/abs/2505.16416) puts the tokens of a picture on a ring, equally far from "
        "every word.\n\n"
        "Equally far is not equally attended: rotary embedding turns a query by every component of the index, and "
        "those still tell the places on the ring apart, which is how the model finds things in the picture.",
        "[Circle-RoPE](https://arxiv.org/abs/2505.16416) 把图片的 token 放在圆环上，到每个词的距离都相等。\n\n"
        "距离相等不等于注意力相等：旋转位置编码按位置索引的每个分量旋转 query，"
        "因此仍能区分圆环上的各个位置，模型也由此在图片中找到东西。",
    ),
    "model_line": ("Model: `{model}`, trained with {trained}.", "模型：`{model}`，训练时使用 {trained}。"),
    "tiny_line": (
        "It is tiny (2 M parameters). {knows}",
        "它很小（200 万参数）。{knows}",
    ),
    "tiny_knows": (
        "It knows coloured circles, squares, triangles and crosses, in English, and nothing else: try “Where is the "
        "red circle?”, “What is at the top left?”, “What colour is the triangle?”, “What shape is blue?”, “How many "
        "shapes are there?”, with two pictures “... in the first picture?”, and with a video “Which shape moves?”.",
        "它只懂英语，只认识彩色的圆、方块、三角形和十字。请用英语提问：“Where is the red circle?”（红圆在哪里）、"
        "“What is at the top left?”（左上角是什么）、“What colour is the triangle?”（三角形是什么颜色）、"
        "“What shape is blue?”（蓝色的是什么形状）、“How many shapes are there?”（有几个图形）；"
        "两张图片时加上“... in the first picture?”（在第一张图片中）；"
        "视频可问“Which shape moves?”（哪个图形在动）。",
    ),
    "language": ("Language", "语言"),
    # input
    "pictures": ("Pictures, video: 20 MB each", "图片或视频：各 20 MB"),
    "question": ("Question", "问题"),
    "question_placeholder": ("Ask something and press Enter", "输入问题，按回车发送"),
    "examples": ("Examples", "示例"),
    "geometry": ("Geometry of the layers", "各层的几何"),
    "geometry_words": (
        "The radius is that of the ring. alpha mixes the angle in the picture (1) with the angle by number (0). "
        "dff_rate blends the flat grid in. Answers, attention and comparisons follow them too.",
        "半径是圆环的半径。alpha 混合图中角度（1）与按序号的角度（0）。dff_rate 混入平面网格。"
        "回答、注意力与比较也随之变化。",
    ),
    "radius": ("Radius", "半径"),
    "auto_radius": ("Radius {radius}, as the model was trained", "半径 {radius}，与训练时相同"),
    "alpha": ("alpha", "alpha"),
    "dff_rate": ("dff_rate", "dff_rate"),
    "reset": ("As the model was trained", "恢复训练时的设置"),
    # ask
    "ask": ("Ask", "提问"),
    "stop": ("Stop", "停止"),
    "clear": ("Start over", "重新开始"),
    "chat": ("Conversation", "对话"),
    "chat_empty": (
        "Pick an example, or add a picture and ask about it.",
        "选一个示例，或添加图片并提问。",
    ),
    "chat_words": (
        "Later questions see the earlier ones. Other pictures begin a new conversation.",
        "后面的问题能看到前面的内容；换图片会开始新的对话。",
    ),
    "settings": ("Length and temperature", "长度与温度"),
    "max_new_tokens": ("Most tokens of an answer", "回答的最多 token 数"),
    "temperature": ("Temperature: 0 always takes the likeliest word", "温度：0 总是取最可能的词"),
    # compare
    "compare_tab": ("Compare", "比较"),
    "compare_head": ("The same question under every geometry", "同一个问题，每种几何"),
    "compare": ("Compare all geometries", "比较所有几何"),
    "compare_words": (
        "The same weights answer the question under every geometry; only the positions differ. Time is that of one "
        "answer on this machine, and PTD (Per-Token Distance) says how unevenly far the words are from the picture, "
        "the mean over the layers: 0 is even.",
        "同一份权重在每种几何下回答同一个问题，只有位置不同。时间为本机上生成一个回答所用的时间；"
        "PTD（per-token distance）表示文字到图片各 token 的距离有多不均匀，取各层平均：0 为完全均匀。",
    ),
    "verdict": (
        "{count} geometries, {different} different answers.",
        "{count} 种几何，{different} 种不同的回答。",
    ),
    "verdict_right": (
        "Right is **{right}**, and {agree} of {count} geometries say so.",
        "正确答案是 **{right}**，{count} 种几何中有 {agree} 种答对。",
    ),
    "verdict_why": (
        " The weights learned where things are under one geometry, and another puts the tokens where they have never "
        "seen them.",
        "权重只在一种几何下学会了东西的位置，换一种几何，token 就到了从未见过的位置。",
    ),
    "is_right": ("right", "正确"),
    "is_wrong": ("wrong", "错误"),
    "compare_empty": ("No comparison yet: ask a question and compare.", "尚无比较：输入问题后点击比较。"),
    "trained": ("as trained", "训练时"),
    "waiting": ("waiting", "等待中"),
    "stopped": ("stopped", "已停止"),
    "no_answer": ("(empty answer)", "（空回答）"),
    "cost": ("{milliseconds} ms, {tokens} tokens", "{milliseconds} 毫秒，{tokens} 个 token"),
    # see
    "see_tab": ("The cone", "圆锥"),
    "attention_tab": ("Attention", "注意力"),
    "positions_words": (
        "Every dot is a token of the picture, coloured by its row; the line is the text, with its words. Lines join "
        "one word to every token of the first picture: under Circle-RoPE they are all of one length, the cone, and "
        "its strip is one column. Per-Token Distance is how much these lengths differ, the mean over all words. Turn "
        "the plot by dragging, and hover to read the index (t, h, w).",
        "每个圆点是图片的一个 token，按行着色；线是文本，旁边写着词。"
        "连线把一个词与第一张图片的每个 token 相连：在 Circle-RoPE 下它们长度相等，形成圆锥，其距离带只有一列。"
        "Per-token distance 是这些长度之间的差异，对所有词取平均。拖动可旋转，悬停可查看索引 (t, h, w)。",
    ),
    "strip_head": ("How far each token of the picture is", "图片的每个 token 有多远"),
    "placed": ("Geometry shown", "所示几何"),
    "along_text": ("along the text", "沿文字轴"),
    "mrope_plot": ("M-RoPE", "M-RoPE"),
    "circle_plot": ("Circle-RoPE", "Circle-RoPE"),
    "cone_plot": ("The cone", "圆锥"),
    "strip_plot": ("Distances", "距离"),
    "ptd": ("Per-Token Distance", "Per-token distance"),
    "spread": ("spread of the logits", "logit 离散度"),
    "ptd_none": ("Per-Token Distance: no picture yet", "Per-token distance：尚无图片"),
    "logits_head": ("What attention sees of it", "注意力看到的位置"),
    "logits_plot": ("Attention logit by distance", "注意力 logit 与距离"),
    "logits_of": ("{geometry}: spread {spread}", "{geometry}：离散度 {spread}"),
    "distance_axis": ("distance from “{token}”", "到“{token}”的距离"),
    "logit_axis": ("logit", "logit"),
    "logits_words": (
        "Every dot is a token of the first picture: how far it is from a word, and which attention logit its position "
        "alone gives it, with the same query and key everywhere. Equal distances are not equal attention: on a ring "
        "all dots stand above one another, and rotary embedding still tells them apart. The spread is the standard "
        "deviation of the logits for random queries and keys (root mean square).",
        "每个点是第一张图片的一个 token：横轴为它到一个词的距离，"
        "纵轴为 query 与 key 处处相同时，仅由位置决定的注意力 logit。"
        "距离相等不等于注意力相等：在圆环上所有点位于同一竖线，旋转位置编码仍能区分它们。"
        "离散度是随机 query 与 key 下 logit 的标准差（均方根）。",
    ),
    "see_empty": ("Add a picture or pick an example.", "请添加图片或选择示例。"),
    "text_tokens": ("text", "文本"),
    "cone": ("from “{token}” to the picture", "从“{token}”到图片"),
    "view": ("View", "视图"),
    "view_picture": ("Picture", "图片"),
    "view_axis": ("Along text", "沿文字轴"),
    "view_whole": ("All", "全部"),
    "row": ("image row", "图像的行"),
    "hover_cell": ("row {row}, column {column}", "第 {row} 行，第 {column} 列"),
    "picture_number": ("picture {number}", "图片 {number}"),
    "video_number": ("video {number}", "视频 {number}"),
    "video_step": ("video {number}, step {step}", "视频 {number}，第 {step} 步"),
    "attention_head": ("Where the answer looks", "回答在看哪里"),
    "attention_words": (
        "The model answers the question under both geometries. The lighter a cell, the more attention it got while "
        "the words of the answer were written. Both pictures share one scale, in per cent of all attention. The "
        "small maps are of all layers and heads, in one scale too: a click opens one.",
        "模型在两种几何下各回答一次。写出回答时，越亮的格子得到的注意力越多。两张图使用同一比例尺，单位为占全部注意力的百分比。"
        "小图是所有层与头，同样共用一个比例尺：点击即可打开。",
    ),
    "open_map": ("Layer {layer}, head {head}: {share} %", "第 {layer} 层，第 {head} 头：{share} %"),
    "opacity": ("Opacity of the attention", "注意力的不透明度"),
    "attend": ("Show attention", "显示注意力"),
    "left": ("Left", "左"),
    "right": ("Right", "右"),
    "step": ("Word of the answer", "回答的词"),
    "all_steps": ("mean", "平均"),
    "layer": ("Layer", "层"),
    "head": ("Head", "头"),
    "all_layers": ("mean", "平均"),
    "all_heads": ("mean", "平均"),
    "picture": ("Picture", "图片"),
    "attention_empty": ("No attention yet.", "尚无注意力图。"),
    "attention_caption": (
        "**{geometry}** answers: {answer}<br>{share} % of the attention goes to this picture. {hint}",
        "**{geometry}** 的回答：{answer}<br>{share} % 的注意力落在这张图片上。{hint}",
    ),
    # what may go wrong
    "no_question": ("The question is empty: type one first.", "问题为空：请先输入问题。"),
    "question_too_long": (
        "The question has {given} characters, but at most {allowed} are taken: shorten it.",
        "问题有 {given} 个字符，最多 {allowed} 个：请缩短。",
    ),
    "control_token": (
        "The question contains {token}, which controls the model: leave it out.",
        "问题中含有控制模型的 {token}：请去掉。",
    ),
    "not_text": ("The question is not valid text: type it again.", "问题不是有效的文本：请重新输入。"),
    "too_many_files": (
        "{given} pictures and videos were given, but at most {allowed} are taken: remove some.",
        "给出了 {given} 个图片与视频，最多 {allowed} 个：请删去一些。",
    ),
    "file_gone": (
        "{name} is no longer here, as uploads are not kept: add it again.",
        "{name} 已不在服务器上（上传的文件不会保留）：请重新添加。",
    ),
    "file_empty": ("{name} is empty: choose another file.", "{name} 是空文件：请另选一个。"),
    "file_too_large": (
        "{name} has {given} MB, but at most {allowed} MB are taken: choose a smaller file.",
        "{name} 有 {given} MB，最多 {allowed} MB：请选择更小的文件。",
    ),
    "not_a_picture": (
        "{name} cannot be read as a picture: choose a PNG, JPEG, WebP or AVIF file.",
        "{name} 无法作为图片读取：请选择 PNG、JPEG、WebP 或 AVIF 文件。",
    ),
    "animated": (
        "{name} is an animated picture: choose a still one, or a video.",
        "{name} 是动态图片：请选择静态图片或视频。",
    ),
    "damaged": (
        "{name} is damaged or cut short: choose another file.",
        "{name} 已损坏或不完整：请另选一个。",
    ),
    "too_many_pixels": (
        "{name} has {width} x {height} pixels, but at most {allowed} million are taken: scale it down.",
        "{name} 有 {width} x {height} 像素，最多 {allowed} 百万：请缩小。",
    ),
    "too_narrow": (
        "{name} has {width} x {height} pixels, but one side may be at most {allowed} times the other: crop it.",
        "{name} 有 {width} x {height} 像素，一边最多为另一边的 {allowed} 倍：请裁剪。",
    ),
    "not_a_video": (
        "{name} cannot be read as a video: choose an MP4 or WebM file.",
        "{name} 无法作为视频读取：请选择 MP4 或 WebM 文件。",
    ),
    "video_too_long": (
        "{name} lasts {given} seconds, but at most {allowed} are taken: cut it.",
        "{name} 长 {given} 秒，最多 {allowed} 秒：请剪短。",
    ),
    "too_many_tokens": (
        "The pictures and the conversation make {given} tokens, but at most {allowed} are taken: remove a picture, or "
        "begin a new conversation.",
        "图片与对话共 {given} 个 token，最多 {allowed} 个：请删去图片或开始新对话。",
    ),
    "too_many_turns": (
        "This conversation has {allowed} questions, which is all it may have: begin a new one.",
        "这个对话已有 {allowed} 个问题，达到上限：请开始新对话。",
    ),
    "no_picture": (
        "Attention needs a picture: add one or pick an example.",
        "注意力图需要图片：请添加图片或选择示例。",
    ),
    "bad_number": (
        "{name} is {given}, but must be a number from {low} to {high}.",
        "{name} 为 {given}，应为 {low} 到 {high} 之间的数。",
    ),
    "bad_whole_number": (
        "{name} is {given}, but must be a whole number from {low} to {high}.",
        "{name} 为 {given}，应为 {low} 到 {high} 之间的整数。",
    ),
    "bad_choice": (
        "{name} is {given}, but must be one of {allowed}.",
        "{name} 为 {given}，应为 {allowed} 之一。",
    ),
    "bad_list": (
        "{name} must be a list of uploaded files: pass each as handle_file(...).",
        "{name} 应为已上传文件的列表：请用 handle_file(...) 传入。",
    ),
    "bad_history": (
        "history must be a list of [question, answer] pairs of text: pass earlier turns that way.",
        "history 应为 [问题, 回答] 文本对的列表：请按此传入之前的对话。",
    ),
    "no_gpu": ("No GPU could be had: {said}.", "未能获得 GPU：{said}。"),
    "failed": (
        "Something went wrong on our side, and nothing of it was kept: try again.",
        "服务器出错，没有保留任何内容：请重试。",
    ),
}


def say(key: str, lang: str) -> str:
    """The words of `key`, in `lang`, or in English when that is unknown."""
    return TEXTS[key][lang == "zh"]


def name_geometry(geometry: str, lang: str) -> str:
    """What a choice of geometry is called."""
    return GEOMETRY_NAMES[geometry][lang == "zh"]


def explain(error, lang: str) -> str:
    """The sentence of a `BadInput`."""
    return say(error.key, lang).format(**error.values)
