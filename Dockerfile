# Not built where it was written. For a GPU, choose another index of PyTorch's wheels (cu126, …).
#   docker build -t dnn_reco .
#   docker run --rm -v "$PWD:/work" dnn_reco train my_network.yaml
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir torch --index-url "$TORCH_INDEX"

COPY pyproject.toml README.md LICENSE /opt/dnn_reco/
COPY dnn_reco /opt/dnn_reco/dnn_reco
COPY configs /opt/dnn_reco/configs
RUN pip install --no-cache-dir '/opt/dnn_reco[display,fastread,i3,onnx,parquet,serve,sign,sky,weights]'

WORKDIR /work
ENTRYPOINT ["dnn-reco"]
