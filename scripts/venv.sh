# The program's virtual environment: made of the pinned packages, put into place, known again as ours. Sourced by
# scripts/install and scripts/install-billmanager, at the repository's root. The caller has `say`, `fail` and PYTHON.
# shellcheck shell=bash

# check_venv VENV: neither an upgrade nor an uninstall takes away what somebody else has put there.
check_venv() {
  if [ -e "$1" ] && [ ! -e "$1/.bill-nextcloud" ]; then
    fail "$1 is there and holds something else; choose another PREFIX"
  fi
}

# Says where PYTHON has its home.
get_python_base() {
  "$PYTHON" -c 'import sys
if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit("Python 3.11, 3.12 or 3.13 is needed, not " + sys.version.split()[0])
print(sys.base_prefix)' || fail "$PYTHON cannot be used"
}

# pip_install VENV ARGUMENT...: with the pip of .venv, so that none is left where the program runs.
pip_install() {
  local venv=$1
  shift
  PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_USER=0 PIP_ROOT_USER_ACTION=ignore \
    .venv/bin/python -m pip --python "$venv/bin/python" install -qq "$@" </dev/null ||
    fail "pip could not install: $*" "Its own message stands above. Is the package index reachable?"
}

# build_venv NEW: program and packages in NEW, no commands. NEW is taken away again when the script ends before
# `place_venv`.
build_venv() {
  local new=$1 source
  source="$(mktemp -d)"
  # shellcheck disable=SC2064 - now, not then
  trap "$(printf 'rm -rf -- %q %q' "$source" "$new")" EXIT
  mkdir -p "$(dirname "$new")"
  "$PYTHON" -m venv --clear --without-pip "$new"
  pip_install "$new" --requirement requirements.lock
  # From a copy: setuptools would leave its build folder here, and take what an earlier build left in it.
  cp -R pyproject.toml README.md states bm_db nc reconciler "$source"
  pip_install "$new" --no-deps --no-build-isolation "$source"
  # They name the folder that they were made in, which is not where they will stand.
  find "$new/bin" -mindepth 1 ! -name 'python*' -delete
  sed -i '/^command = /d' "$new/pyvenv.cfg"
  touch "$new/.bill-nextcloud"
}

# place_venv NEW VENV: the old one stands until the new one is whole; a failure before leaves it as it was.
place_venv() {
  rm -rf "$2.old"
  if [ -e "$2" ]; then
    mv "$2" "$2.old"
  fi
  mv "$1" "$2"
  rm -rf "$2.old"
}

# remove_venv VENV
remove_venv() {
  rm -rf "$1" "$1.new" "$1.old"
}
