#!/bin/sh
# Train the networks that the cross-validation needs and those that the package ships: about 1.2 h of two cores.
#     sh benchmarks/deepseg_train_folds.sh ../shared/data weights
set -eu
data=$1
out=$2
export OMP_NUM_THREADS=1
for fold in 0 1 2; do
    spineseg train detect -data "$data/labelled.tsv" -extra "$data/images.tsv" -fold "$fold/3" \
        -batch 24 -phantoms 1500 -minutes 9 -o "$out/fold$fold/deepseg_detect.safetensors" -resume
    spineseg train segment -data "$data/labelled.tsv" -masks "$data/geometry" -fold "$fold/3" \
        -phantoms 1500 -minutes 20 -o "$out/fold$fold/deepseg_segment.safetensors" -resume
done
spineseg train detect -data "$data/labelled.tsv" -extra "$data/images.tsv" \
    -batch 24 -phantoms 1500 -minutes 10 -o "$out/deepseg_detect.safetensors" -resume
spineseg train segment -data "$data/labelled.tsv" -masks "$data/geometry" \
    -phantoms 1500 -minutes 22 -o "$out/deepseg_segment.safetensors" -resume
