#!/bin/sh
# Train the networks that the cross-validation needs and those that the package ships: about 1.5 h of one core with bf16 matrix units.
#     sh benchmarks/deepseg_train_folds.sh ../shared/data weights
# The same steps and seed on one thread give the same weights on the same machine; a killed run continues.
# Name stages to train only these, for example on two cores in parallel: ... weights detect & ... weights segment
set -eu
data=$1
out=$2
stages=${3:-detect segment segment_3d}
recipe=$(dirname "$0")/recipe.tsv  # the people and images of the shipped weights, even if the data have grown since
export OMP_NUM_THREADS=1

train() {  # stage, folder, then options
    stage=$1
    folder=$2
    shift 2
    set -- -data "$data/labelled.tsv" -recipe "$recipe" -template "$data/template" -phantoms 1500 -cordless 500 -threads 1 -resume "$@"
    case $stage in
    detect)
        spineseg train detect "$@" -extra "$data/images.tsv" -batch 24 -steps 1200 \
            -o "$folder/deepseg_detect.safetensors" ;;
    segment)
        # t1crop's reference lies inside the edge that the others follow, and its origin is unknown
        spineseg train segment "$@" -masks "$data/geometry" -trust t1crop=0.1 -steps 2400 \
            -o "$folder/deepseg_segment.safetensors" ;;
    segment_3d)  # starts from the weights of the 2-D network
        spineseg train segment "$@" -masks "$data/geometry" -trust t1crop=0.1 -kernel 3d \
            -start "$folder/deepseg_segment.safetensors" -steps 300 -rate 5e-4 -o "$folder/deepseg_segment_3d.safetensors" ;;
    esac
}

for stage in $stages; do
    for fold in 0 1 2; do
        train "$stage" "$out/fold$fold" -fold "$fold/3"
    done
    train "$stage" "$out"
done
