#!/usr/bin/env bash
# A provider migration from the first command to the last: work that runs in AWS and GCP gets a third place, Azure.
#
#   cd "$(mktemp -d)" && bash /path/to/provider-migration.sh
#
# It writes ./store, ./proof.json and the key pair ./scheduler-a.*, and may be run again from the top. A step that must
# be refused on the first run ends in `|| [ $? -eq CODE ]`: that code goes on, any other failure stops the script.
set -eu

export GRAFCTL_STORE=./store

# Two failure domains in one store, each an environment of its own; give one `=PATH` to put it on another disk.
grafctl init --domain aws/us-east-1/us-east-1a --domain gcp/us-central1

# A queue with a copy in both. It may be used from anywhere below aws and gcp, and from nowhere else.
grafctl queue create migration-orders --schema migration-work.v1 \
  --replica orders-aws-a=aws/us-east-1/us-east-1a --replica orders-gcp-central=gcp/us-central1 --allow aws --allow gcp

# The workers that are there today. What they finish is final once, for every group of their lineage.
grafctl consumer create migration-orders active-workers --allow aws --allow gcp --semantics effectively-once

# One record from each side; each is on disk in both domains when the command returns. The id makes a repeat harmless.
grafctl publish migration-orders created --id order-1 -d aws/us-east-1/us-east-1a
grafctl publish migration-orders paid    --id order-2 -d gcp/us-central1

# Azure is made known to the store. That allows nothing yet.
grafctl domain add azure/eastus

# Refused, 11 not_in_placement: the group may not read there, and adding the domain did not change that.
grafctl poll migration-orders --group active-workers -d azure/eastus || [ $? -eq 11 ]

# Refused, 13: generation 1 is in force, and a locator moves by exactly one. Nothing is changed.
grafctl locator set migration-orders --generation 1 --add orders-azure-eastus=azure/eastus || [ $? -eq 13 ]

# Refused, 12: nobody has ever seen azure healthy.
grafctl locator set migration-orders --generation 2 --add orders-azure-eastus=azure/eastus || [ $? -eq 12 ]

# An authority whose signed word about health the store takes. A key is never overwritten, so a second run keeps it.
if [ ! -e scheduler-a.key ]; then
  grafctl authority keygen scheduler-a
fi
grafctl authority add scheduler-a --public-key scheduler-a.pub
grafctl health observe azure/eastus healthy --authority scheduler-a --key-file scheduler-a.key

# Now the locator takes azure: as a copy that is catching up, and counts for nothing until it is proven.
grafctl locator set migration-orders --generation 2 --add orders-azure-eastus=azure/eastus

# Refused, 19: nobody has proven that the records are there.
grafctl consumer shift migration-orders active-workers --as azure-workers --allow azure/eastus --proof none || [ $? -eq 19 ]

# Copies, reads both sides back, compares, and makes the copy a voter. The proof: count 2, match true.
grafctl catch-up migration-orders -d azure/eastus --json > proof.json

# A new group of the same lineage, allowed in azure alone. The old group stays as it is.
grafctl consumer shift migration-orders active-workers --as azure-workers --allow azure/eastus --proof @proof.json

# Both records, read in azure.
grafctl poll migration-orders --group azure-workers -d azure/eastus --max 10

# Still refused, 11: the shift widened nothing for the old group.
grafctl poll migration-orders --group active-workers -d azure/eastus || [ $? -eq 11 ]

# The old group: the same placement and the same cursor as before.
grafctl consumer show migration-orders active-workers --json
