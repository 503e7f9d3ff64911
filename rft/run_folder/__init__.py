"""The files of a run folder, and the modules that read and write them.

    config.yaml, manifest.json          `recorder`, `provenance`: resolved configuration, versions, hashes, seed
    metrics.jsonl, rollouts.jsonl       `recorder`, `rollout_lines`: one line per step, one line per rollout
    events.jsonl                        `folder_sink`: phases, warnings, measurements
    checkpoints/                        `checkpoint`: state for resuming
    adapter/ or model/                  `results`, `model_card`: the result
    summary.json, plots/                `summary`, `plots`
    grader_faults.jsonl, grader_output.txt   `rft.grading.grader_log`
    tensorboard/, trackers/             `rft.trackers`

`copies` keeps a copy of the folder in storage, and `completions` reads the rollouts back.
"""
