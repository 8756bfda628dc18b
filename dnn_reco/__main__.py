"""`python -m dnn_reco`: the same as `dnn-reco`."""

from dnn_reco.cli import main

if __name__ == "__main__":
    main()
