#!/bin/sh
# Makes what docker-compose.yml asks for and is not there yet: a folder of secrets, and .env. Never changes what is there.
#
#   configs/new_secrets.sh [FOLDER]       (`make secrets`; FOLDER defaults to ./secrets)
#
# Only the folder is closed to others: each container sees its own few files, under a user of its own.
set -eu
cd "$(dirname "$0")/.."
folder="${1:-secrets}"

random() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; } # BYTES, as hexadecimal digits

keep() { # NAME VALUE: writes it unless it is there
  if [ ! -e "$folder/$1" ]; then
    printf '%s\n' "$2" >"$folder/$1.partial"
    chmod 444 "$folder/$1.partial"
    mv "$folder/$1.partial" "$folder/$1"
    echo "made $folder/$1"
  fi
}

umask 077
mkdir -p "$folder"
chmod 700 "$folder"
for database in warehouse results; do
  keep "${database}_password" "$(random 24)"
  keep "${database}_url" "postgresql://ecg:$(cat "$folder/${database}_password")@$database:5432/ecg_$database"
done
for role in api ingest trainer scorer monitor exporter; do # database roles of least privilege, see docs/security.md
  keep "ecg_${role}_password" "$(random 24)"
  for database in warehouse results; do
    keep "${role}_${database}_url" "postgresql://ecg_$role:$(cat "$folder/ecg_${role}_password")@$database:5432/ecg_$database"
  done
done
keep pseudonym_key "$(random 32)"
keep admin_key "ecg_$(random 6)_$(random 32)"
keep grafana_password "$(random 16)"
if [ ! -e .env ]; then
  cp .env.example .env
  echo "made .env from .env.example"
fi
echo "Keep $folder/pseudonym_key apart from the data, and a copy of it: without it the same patient gets another pseudonym."
