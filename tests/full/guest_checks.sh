# Runs inside the guest (guest.py): each function is one check, in this file's order; the first boot's names begin with
# `first_`, the second's with `second_`.
set -u
export DEBIAN_FRONTEND=noninteractive

wait_for() {  # SECONDS COMMAND…
  local limit=$1
  shift
  for ((i = 0; i < limit * 2; i++)); do
    if "$@"; then return 0; fi
    sleep 0.5
  done
  echo "did not come within $limit s: $*"
  return 1
}

not() {  # `! COMMAND` would not end a check: set -e passes over it
  if "$@"; then
    echo "did not fail: $*"
    return 1
  fi
}

says() {  # PATTERN COMMAND…: its output, whatever its status, has such a line
  local pattern=$1 output
  shift
  output=$("$@" 2>&1) || true
  printf '%s\n' "$output"
  grep -q -- "$pattern" <<<"$output"
}

project() {  # FOLDER SECONDS: a step that appends to its output once a second, then says done
  mkdir -p "$1"
  cat >"$1/loam.yaml" <<YAML
name: $(basename "$1")
steps:
  count:
    run: i=0; while [ \$i -lt $2 ]; do i=\$((i+1)); echo \$i; sleep 1; done; echo done
    resources: {cpus: 0.2, memory: 64MiB}
YAML
}

started() { loam logs "$1" 2>/dev/null | grep -q 1; }
state_of() { loam ps -a --json | python3 -c "
import json, sys
for job in json.load(sys.stdin)['jobs']:
    if str(job['run']) == '$1': print(job['state'], len(job['attempts']))"; }
succeeded() { [ "$(state_of "$1")" = "succeeded 1" ]; }
pid() { systemctl show --property=MainPID --value loam; }
answers() { loam node status >/dev/null 2>&1; }
run_of() { sed -n 's/^run \([0-9]*\)$/\1/p'; }
as_user() { runuser -u ada -- env HOME=/home/ada USER=ada XDG_RUNTIME_DIR=/run/user/$(id -u ada) "$@"; }

first_only_cgroup_v2() {
  [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]
}

first_the_package_starts_nothing() {
  apt-get install -y -qq /root/loam.deb </dev/null
  loam version
  not systemctl is-enabled loam
  not ps -C loam
  not test -e /run/loam
}

first_install_enables_and_is_idempotent() {
  loam node install
  systemctl is-active loam
  systemctl is-enabled loam
  local before
  before=$(pid)
  says '^unchanged /etc/systemd/system/loam.service' loam node install
  [ "$(pid)" = "$before" ]
}

first_every_guard_is_there() {
  says 'guard memory: cgroup v2' loam doctor
  not says '^missing *guard' loam doctor
}

first_memory_is_limited_and_an_oom_kill_is_called_that() {
  says 'out of memory' loam run --memory 64MiB -- python3 -c 'x = bytearray(200 << 20)'
  systemctl is-active loam  # the unit is not the kernel's victim's
}

first_processes_and_cpu_are_limited() {
  says '^4096 50000 100000 67108864$' loam run --cpus 0.5 --memory 64MiB -- sh -c '
    group=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)
    echo $(cat $group/pids.max $group/cpu.max $group/memory.max)'
}

first_a_job_survives_a_restart_of_its_node() {
  project /root/restarted 20
  cd /root/restarted
  local run before
  run=$(loam up --detach | run_of)
  wait_for 60 started "$run"
  before=$(pid)
  systemctl restart loam
  [ "$(pid)" != "$before" ]
  systemctl status --no-pager loam
  wait_for 120 succeeded "$run"
  [ "$(loam logs "$run" | wc -l)" = 21 ]
}

first_a_killed_node_comes_back_and_finds_its_job() {
  project /root/killed 20
  cd /root/killed
  local run before
  run=$(loam up --detach | run_of)
  wait_for 60 started "$run"
  before=$(pid)
  kill -9 "$before"
  wait_for 60 answers
  [ "$(pid)" != "$before" ]
  wait_for 120 succeeded "$run"
  [ "$(loam logs "$run" | wc -l)" = 21 ]
}

first_an_upgrade_of_the_package_leaves_the_job_alone() {
  project /root/upgraded 30
  cd /root/upgraded
  local run before
  run=$(loam up --detach | run_of)
  wait_for 60 started "$run"
  before=$(pid)
  apt-get install -y -qq /root/next.deb </dev/null
  [ "$(pid)" != "$before" ]
  says 'loam-shim (deleted)' readlink /proc/*/exe  # the keeper's program is gone, the keeper is not
  wait_for 120 succeeded "$run"
  [ "$(loam logs "$run" | wc -l)" = 31 ]
}

first_removal_is_refused_while_a_job_runs() {
  project /root/refused 600
  cd /root/refused
  local run
  run=$(loam up --detach | run_of)
  wait_for 60 started "$run"
  not apt-get remove -y -qq loam </dev/null
  wait_for 60 answers
  loam ps
  loam cancel "$run"
}

first_a_user_installs_an_own_node() {
  systemctl stop loam
  useradd --create-home --shell /bin/bash ada
  loginctl enable-linger ada
  wait_for 60 test -S "/run/user/$(id -u ada)/systemd/private"
  as_user loam node install --user
  as_user systemctl --user is-active loam
  not says '^missing *guard \(memory\|cpu\|processes\|kill\)' as_user loam doctor
}

first_the_users_job_is_limited_and_survives_a_restart() {
  cd /home/ada
  says 'out of memory' as_user loam run --memory 64MiB -- python3 -c 'x = bytearray(200 << 20)'
  project /home/ada/counted 20
  chown -R ada: /home/ada/counted
  cd /home/ada/counted
  as_user loam up --detach
  wait_for 60 as_user sh -c 'loam logs 2 | grep -q 1'
  as_user systemctl --user restart loam
  wait_for 120 as_user sh -c 'loam ps -a | grep -q "^2/count *succeeded"'
  [ "$(as_user loam logs 2 | wc -l)" = 21 ]
}

first_the_users_node_goes_without_a_trace() {
  cd /
  as_user loam node uninstall --purge
  not test -e /home/ada/.local/state/loam
  not test -e /home/ada/.config/systemd/user/loam.service
  not says . find /sys/fs/cgroup/user.slice -name 'loam*'
}

first_a_node_of_a_login_session_gets_a_scope() {
  # A session's group is root's: the user may not divide it, so a node started there gets a delegated scope.
  cd /home/ada
  local id
  id=$(id -u ada)
  says "^0::/user.slice/user-$id.slice/user@$id.service/loam" systemd-run --quiet --pipe --wait --uid=ada \
    --slice="user-$id.slice" --setenv=HOME=/home/ada --setenv=USER=ada "--setenv=XDG_RUNTIME_DIR=/run/user/$id" \
    loam run --memory 64MiB -- cat /proc/self/cgroup
  not says '^missing *guard \(memory\|cpu\|processes\|kill\)' as_user loam doctor
  as_user loam node uninstall --purge
}

first_a_job_is_left_for_the_reboot() {
  systemctl start loam
  project /root/rebooted 40
  cd /root/rebooted
  loam up --detach | run_of >/root/rebooted.run
  wait_for 60 started "$(cat /root/rebooted.run)"
}

second_the_job_of_before_the_reboot_runs_again() {
  wait_for 60 answers
  systemctl is-active loam
  local run
  run=$(cat /root/rebooted.run)
  finished() { [ "$(state_of "$run")" = "succeeded 2" ]; }
  wait_for 180 finished
  says '"lost"' loam ps -a --json
}

second_purge_leaves_nothing() {
  cd /
  loam node uninstall --purge --yes
  local left
  for left in /etc/systemd/system/loam.service /var/lib/loam /run/loam /run/lock/loam /sys/fs/cgroup/loam; do
    not test -e $left
  done
  not says '^loam:' cat /etc/subuid /etc/subgid
  not says . systemctl list-units --all 'loam*' --no-legend
  apt-get purge -y -qq loam </dev/null
  not test -e /usr/bin/loam
}

boot=first
[ -e /root/booted ] && boot=second
touch /root/booted
for check in $(sed -n "s/^\(${boot}_[a-z0-9_]*\)() {$/\1/p" "$0"); do
  echo "=== $check"
  (set -eE; trap 'echo "failed at line $LINENO: $BASH_COMMAND"' ERR; set -o pipefail; $check)
  echo "=== status $?"
done
