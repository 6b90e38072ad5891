#!/bin/sh
# Train the networks that the cross-validation needs and those that the package ships: about 1.5 h of two idle cores.
#     sh benchmarks/deepseg_train_folds.sh ../shared/data weights
# The same steps and seed on one thread give the same weights on the same machine; a killed run goes on where it was.
set -eu
data=$1
out=$2
export OMP_NUM_THREADS=1
train() {  # folder, then options
    folder=$1
    shift
    spineseg train detect -data "$data/labelled.tsv" -extra "$data/images.tsv" "$@" \
        -batch 24 -phantoms 1500 -steps 1200 -threads 1 -resume -o "$folder/deepseg_detect.safetensors"
    spineseg train segment -data "$data/labelled.tsv" -masks "$data/geometry" "$@" \
        -phantoms 1500 -steps 2000 -threads 1 -resume -o "$folder/deepseg_segment.safetensors"
}
for fold in 0 1 2; do
    train "$out/fold$fold" -fold "$fold/3"
done
train "$out"
