#!/bin/bash
# Written by `dnn-reco submit train`. Submit it from its folder.
#SBATCH --job-name={{ job.name | sbatch }}
#SBATCH --output={{ log }}
#SBATCH --open-mode=append
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={{ job.resources.cpus }}
{% if job.resources.gpus %}
#SBATCH --gres=gpu:{{ job.resources.gpus }}
{% endif %}
#SBATCH --mem={{ job.resources.memory }}M
{% if job.resources.seconds is not none %}
#SBATCH --time={{ job.resources.seconds | hms }}
{% endif %}
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
{% for key, value in job.options.items() %}
#SBATCH --{{ key }}={{ value | sbatch }}
{% endfor %}

# SIGTERM is forwarded to the training, which saves. It is sent two minutes before the time limit.
training=
asked_to_stop=
trap 'asked_to_stop=yes; [ -z "$training" ] || kill -TERM "$training"' TERM

cd {{ job.directory | string | sh }} || exit 1
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-{{ job.resources.cpus }}}"
{% for line in job.setup %}
{{ line }}
{% endfor %}

{{ command }} &
training=$!
[ -z "$asked_to_stop" ] || kill -TERM "$training"
wait "$training"
code=$?
while [ -n "$asked_to_stop" ]; do # it was the signal that ended the wait
    asked_to_stop=
    wait "$training"
    code=$?
done

case $code in
{{ saved }} | 143) # saved, or nothing to save yet: requeue
    # "Incomplete": a job that was cancelled stays cancelled
    scontrol requeue Incomplete "$SLURM_JOB_ID" ||
        echo "The job could not be requeued: submit it again to resume." >&2
    ;;
esac
exit "$code"
