"""Weights -> a model folder in the released layout (names, config.json, tokenizer.json), bf16.

    export.py --weights DIR/weights... --vocabulary tokenizer.json --out FOLDER
"""
import argparse, json, os, shutil, struct
import torch
import checkpoint
from model import Config, Model
from tokenizer import Tokenizer

# What reads best (LOG.md): longer side, mode, conditions. Asked for places, gundam-m finds fewer blocks than gundam.
MANY = dict(magnification=3, grounding=False)       # up to six tiles, as training had them
AUTO = [[500, "base"], [640, "large"], [None, "gundam-m", dict(MANY, tiles=[2, 3])], [None, "gundam-m", dict(MANY, tiles=[3, 2])], [None, "gundam", dict(magnification=4)], [None, "large"]]
CONTEXT = 4608                               # 2,560 ids behind the 2,020 positions of the fullest page: what training held
NGRAM = 96                                   # repeated lines of a page must stay possible
CONFIDENCE = .4                              # what is read has .5 and more, what is made up .4 and less (doc/accuracy.md)
TURN = .8                                    # pages on their side or head have .6 and less, upright ones mostly .9


def rename(weights, c):
    """The names of the release: stacked matrices are taken apart."""
    out = {}
    for name, t in weights.items():
        if name.endswith("mlp.experts.gate_up.weight"):
            gate, up = t.chunk(2)
            for e in range(c.experts):
                rows = slice(e * c.expert_ff, (e + 1) * c.expert_ff)
                at = name.replace("gate_up.weight", f"{e}.")
                out[at + "gate_proj.weight"], out[at + "up_proj.weight"] = gate[rows], up[rows]
        elif name.endswith("mlp.experts.down_proj.weight"):
            for e in range(c.experts):
                out[name.replace("experts.down", f"experts.{e}.down")] = t[:, e * c.expert_ff:(e + 1) * c.expert_ff]
        elif name.endswith("gate_up.weight"):
            gate, up = t.chunk(2)
            out[name.replace("gate_up", "gate_proj")], out[name.replace("gate_up", "up_proj")] = gate, up
        else:
            out[name] = t
    return out


def read(folder):
    """A model folder, in bf16 or q8 -> weights as train.py takes them"""
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head, data = json.loads(f.read(n)), f.read()
    head.pop("__metadata__", None)

    def tensor(name):
        kind, shape, (at, end) = (head[name][k] for k in ("dtype", "shape", "data_offsets"))
        kind = dict(BF16=torch.bfloat16, I8=torch.int8)[kind]
        return torch.frombuffer(bytearray(data[at:end]), dtype=kind).view(shape).float()
    out = {}
    for name in head:
        if name.endswith(".weight_scale"):
            continue
        out[name] = tensor(name)
        if name + "_scale" in head:                                            # a scale for each 64 numbers of a row
            out[name] *= tensor(name + "_scale").repeat_interleave(64, 1)[:, :out[name].shape[1]]
    return dict(model=unite(out))


def unite(weights):
    """The inverse of `rename`"""
    out, experts = {}, {}
    for name, t in weights.items():
        at, kind = name[:-len("gate_proj.weight")], name.rsplit(".", 2)[-2]
        if ".mlp.experts." in name:
            stem, rest = name.split(".mlp.experts.")
            number, which, _ = rest.split(".")
            experts.setdefault(stem + ".mlp.experts.", {}).setdefault(which, {})[int(number)] = t
        elif kind == "gate_proj":
            out[at + "gate_up.weight"] = torch.cat([t, weights[at + "up_proj.weight"]])
        elif kind != "up_proj":
            out[name] = t
    for stem, parts in experts.items():
        gate, up, down = ([part[k] for k in sorted(part)] for part in (parts["gate_proj"], parts["up_proj"], parts["down_proj"]))
        out[stem + "gate_up.weight"], out[stem + "down_proj.weight"] = torch.cat(gate + up), torch.cat(down, 1)
    return out


def safetensors(path, tensors):
    head, at = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        n = tensors[name].numel() * 2
        head[name] = {"dtype": "BF16", "shape": list(tensors[name].shape), "data_offsets": [at, at + n]}
        at += n
    data = json.dumps(head, separators=(",", ":")).encode()
    data += b" " * (-(len(data) + 8) % 64)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(data)) + data)
        for name in sorted(tensors):
            f.write(tensors[name].to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes())


def config(c):
    decoder = dict(hidden_size=c.hidden, num_hidden_layers=c.layers, num_attention_heads=c.heads, num_key_value_heads=c.heads, intermediate_size=c.dense_ff,
                   moe_intermediate_size=c.expert_ff, n_routed_experts=c.experts, num_experts_per_tok=c.chosen, n_shared_experts=c.shared,
                   first_k_dense_replace=1, moe_layer_freq=1, vocab_size=c.vocab, max_position_embeddings=CONTEXT, use_mla=False, topk_method="greedy",
                   n_group=1, topk_group=1, bos_token_id=0, eos_token_id=1, rope_theta=c.theta, rms_norm_eps=1e-6)
    sam = dict(image_size=16 * c.sam_grid, patch_size=16, width=c.sam_width, layers=c.sam_layers, heads=c.sam_heads, mlp_ratio=4, window_size=c.window,
               global_attn_indexes=list(c.sam_global), downsample_channels=[c.middle, c.clip_width], out_chans=c.neck)
    clip = dict(image_size=14 * c.clip_grid, patch_size=14, width=c.clip_width, layers=c.clip_layers, heads=c.clip_heads, intermediate_size=4 * c.clip_width)
    return dict(architectures=["DeepseekOCRForCausalLM"], model_type="deepseek_vl_v2", torch_dtype="bfloat16", tile_tag="2D", global_view_pos="head",
                candidate_resolutions=[[1024, 1024]], **decoder, language_config=dict(decoder, architectures=["DeepseekV2ForCausalLM"], torch_dtype="bfloat16"),
                projector_config=dict(model_type="mlp_projector", projector_type="linear", input_dim=2 * c.clip_width, n_embed=c.hidden),
                vision_config=dict(model_name="deeplip_b_l", model_type="vision", image_size=16 * c.sam_grid, mlp_ratio=3.7362,
                                   width={"sam_vit_b": sam, "clip-l-14-224": clip}),
                ocr=dict(auto=AUTO, no_repeat_ngram_size=NGRAM, min_confidence=CONFIDENCE, turn_confidence=TURN))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--weights", nargs="+", required=True, help="of several runs, each begun with the weights of another, or model folders: their mean")
    for name in ("--vocabulary", "--out"):
        ap.add_argument(name, required=True)
    args = ap.parse_args()
    c = Config(vocab=Tokenizer(args.vocabulary).size)
    os.makedirs(args.out, exist_ok=True)
    model = Model(c)
    several = [(read(place) if os.path.isdir(place) else checkpoint.load(place))["model"] for place in args.weights]
    model.take({name: sum(w[name] for w in several) / len(several) for name in several[0]})
    tensors = rename(model.state_dict(), c)
    safetensors(os.path.join(args.out, "model.safetensors"), tensors)
    processor = dict(image_mean=[.5] * 3, image_std=[.5] * 3, normalize=True, patch_size=16, downsample_ratio=4, image_token="<image>",
                     pad_token="<｜▁pad▁｜>", processor_class="DeepseekVLV2Processor", sft_format="deepseek", candidate_resolutions=[[1024, 1024]])
    for name, data in (("config.json", config(c)), ("processor_config.json", processor)):
        with open(os.path.join(args.out, name), "w", encoding="utf-8") as f:
            json.dump(data, f, ensure_ascii=False, indent=1)
    shutil.copyfile(args.vocabulary, os.path.join(args.out, "tokenizer.json"))
    print(len(tensors), "tensors,", sum(t.numel() for t in tensors.values()), "parameters")


if __name__ == "__main__":
    main()
