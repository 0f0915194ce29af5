"""Small published lists in both families' formats, with the catalogue's classes and ids of our own."""

from pathlib import Path

from vidlib.data.catalogue import entries

TRX = {"hmdb51": "hmdb_ARN", "ucf101": "ucf_ARN", "kinetics100": "kinetics_CMN"}
TRX |= {"ssv2_small": "ssv2_CMN", "ssv2_full": "ssv2_OTAM"}
Videos = dict[str, dict[str, list[str]]]  # split -> class -> ids


def videos(name: str, number: int = 2) -> Videos:
    """``number`` videos of each class of the catalogue; ids of 11 characters for Kinetics, digits for SSv2."""
    made: Videos = {}
    count = 0
    for split, classes in entries.entry(name).texts().items():
        for cls in classes:
            ids = []
            for _ in range(number):
                count += 1
                ids.append({"k": f"-id_{count:07}", "s": str(count)}.get(name[0], f"v(1)_{cls}_g{count}!"))
            made.setdefault(split, {})[cls] = ids
    return made


def write_trx(root: Path, name: str, made: Videos) -> Path:
    """``<root>/splits/<name as in TRX>/trainlist03.txt`` and so on; the folder."""
    folder = root / "splits" / TRX[name]
    folder.mkdir(parents=True, exist_ok=True)
    number = "07" if name == "ssv2_full" else "03"
    for split, classes in made.items():
        lines = []
        for k, (cls, ids) in enumerate(classes.items()):
            label = f"{split}{k}" if name == "ssv2_full" else cls.replace("[", "").replace("]", "")
            tail = "_000010_000020" if name == "kinetics100" else ""
            lines += [f"{label}/{video}{tail}\n" for video in ids]
        (folder / f"{split}list{number}.txt").write_text("".join(lines))
    return folder


def write_clip_fsar(root: Path, name: str, made: Videos, folders: bool = True) -> Path:
    """``<root>/configs/projects/X/<name>/train_few_shot.txt`` and so on; the folder. Labels count as the published ones
    do. ``folders`` False: a path has no class folder."""
    folder = root / "configs" / "projects" / "X" / name
    folder.mkdir(parents=True, exist_ok=True)
    facts = entries.entry(name)
    for split, classes in made.items():
        order = facts.label_order.get(split, range(len(facts.classes[split])))
        lines = []
        for k, position in enumerate(order):
            cls = facts.classes[split][position].name
            for i, video in enumerate(classes.get(cls, ())):
                if name.startswith("ssv2"):
                    lines.append(f"{split}{k}/{video}\n")
                elif name == "kinetics100":  # videos of the validation folder lack their times
                    place, tail = ("val_256", "") if i % 2 else ("train_256", "_000010_000020")
                    lines.append(f"{split}{k}//{place}/{cls.replace(' ', '_')}/{video}{tail}.mp4\n")
                else:
                    lines.append(f"{split}{k}//videos/{f'{cls}/' if folders else ''}{video}.avi\n")
        (folder / f"{split}_few_shot.txt").write_text("".join(lines))
    return folder
