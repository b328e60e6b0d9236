"""Names photos with a run of `keras-finegrain train`, and learns a new class.

    keras-finegrain train photos/ --output runs/birds
    python examples/identify.py runs/birds photo.jpg another.jpg
    python examples/identify.py runs/birds photo.jpg --learn wren wren/

A class that is learned is in the gallery, not in the model: a few photos do,
and nothing is trained.
"""

import argparse

import keras_finegrain


def main(argv: list[str] | None = None) -> list[str]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run's folder, or that of one method")
    parser.add_argument("photos", nargs="+", help="files")
    parser.add_argument(
        "--learn", nargs=2, metavar=("CLASS", "FOLDER"), help="a new class"
    )
    options = parser.parse_args(argv)

    bundle = keras_finegrain.Bundle.load(options.run)
    if options.learn:
        name, folder = options.learn
        bundle.add(folder, name)
    names = []
    for photo, answer in zip(
        options.photos, bundle.identify(options.photos), strict=True
    ):
        name = "unknown" if answer.unknown else answer.class_name
        nearest = answer.matches[0]
        print(
            f"{photo}: {name} (similarity {answer.similarity:.2f}; most like "
            f"{nearest.key}, {nearest.similarity:.2f})"
        )
        names.append(name)
    return names


if __name__ == "__main__":
    main()
