"""HDF5 files that other people made: they are read only if all of their content is in them."""

import h5py

from resnet_keras.errors import InputError


def check_self_contained(file: h5py.File, name: object) -> None:
    """Refuses a file that would have other files of this machine read as its own content.

    HDF5 has three ways to do so: external links, datasets in external files, and virtual datasets,
    which are composed of datasets in other files.

    Args:
        file: open for reading; none of its arrays is read.
        name: of the file, for the message.

    Raises:
        InputError: the file has a link or a dataset of these kinds.
    """
    if found := _reference(file, "", set()):
        raise InputError(
            "the HDF5 file takes data from other files",
            received=f"{name} with {found}",
            accepted="a file that holds all of its data itself",
        )


def _reference(group: h5py.Group, path: str, seen: set[int]) -> str:
    """The first reference to another file in a group and below; an empty text if there is none."""
    for name in group:
        place = f"{path}/{name}"
        try:
            link = group.get(name, getlink=True)
        except TypeError:  # links of a program's own kind
            return f"a link of an unknown kind at {place!a}"
        if isinstance(link, h5py.ExternalLink):
            return f"an external link at {place!a} to {link.filename!a}"
        if isinstance(link, h5py.SoftLink):  # to a place that is looked at itself, or to none
            continue
        item = group[name]
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                kind = "a virtual dataset" if item.is_virtual else "an external dataset"
                return f"{kind} at {place!a}"
        elif isinstance(item, h5py.Group):
            address = h5py.h5o.get_info(item.id).addr
            if address not in seen:
                seen.add(address)
                if found := _reference(item, place, seen):
                    return found
    return ""
