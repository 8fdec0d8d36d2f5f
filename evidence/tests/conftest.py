"""Nothing is fetched from a hub, and remote code goes into a cache of its own."""

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_MODULES_CACHE", tempfile.mkdtemp(prefix="circle_rope_modules_"))
