# One row of the paper's table: train, evaluate, compare. Sourced by the scripts beside it.
#
#   row NAME INPUT PADDING MPJPE PA_MPJPE TRAIN_OPTIONS... -- ARGUMENTS
#
# ARGUMENTS: DATA_ROOT [CHECKPOINT]. With a checkpoint (published .pth.tar or ours) it is evaluated
# as it is; without one it is trained first, into runs/NAME, going on where an earlier call stopped.

source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

row() {
    local name=$1 input=$2 padding=$3 mpjpe=$4 pa_mpjpe=$5
    shift 5
    local options=()
    while [[ $1 != -- ]]; do options+=("$1"); shift; done
    shift
    if [[ $# -lt 1 || $# -gt 2 ]]; then
        echo "usage: $0 DATA_ROOT [CHECKPOINT]    (data in DATA_ROOT/$input)" >&2
        return 2
    fi
    local data=$1 checkpoint=${2:-runs/$name/best.safetensors}
    set_up
    # shellcheck disable=SC2206
    local modes=($padding)
    if [[ $# == 1 ]]; then
        local resume=()
        if [[ -f runs/$name/state.pth ]]; then resume=(--resume); fi
        say "$name: training (100 epochs)"
        "$venv/bin/gridpose" train --data_rootdir "$data" --input "$input" --padding_mode "${modes[@]}" \
            --epoch 100 --select-on test --ckpt runs --exp "$name" "${options[@]}" "${resume[@]}"
    fi
    say "$name: evaluating $checkpoint"
    "$venv/bin/gridpose" eval --data_rootdir "$data" --input "$input" --padding_mode "${modes[@]}" \
        --load "$checkpoint" --plot "$name.png" --csv "$name.csv" --overwrite --json >"$name.json"
    "$venv/bin/python" - "$name.json" "$mpjpe" "$pa_mpjpe" <<'PYTHON'
import json, sys

file, *published = sys.argv[1:]
result = json.load(open(file))
for name, wanted in zip(("mpjpe", "pa_mpjpe"), map(float, published)):
    print(f"{name:9} published {wanted:.2f} mm, here {result[name]:.2f} mm ({result[name] - wanted:+.2f})")
print(f"{result['samples']} poses; {result['protocol']}")
PYTHON
}
