# Shell functions that the scripts share; to be sourced from the repository's root.

PG_CONFIG=${PG_CONFIG:-pg_config}

is_root() {
    [ "$(id -u)" -eq 0 ]
}

as_root() {
    if is_root; then "$@"; else sudo "$@"; fi
}

# The server refuses to run as root; Debian's packages make a user for it.
as_server_user() {
    if is_root; then runuser -u postgres -- "$@"; else "$@"; fi
}

# install_packages GROUP...: those groups of tools/packages.txt, unless they are all there.
install_packages() {
    packages=$(for group; do sed -n "s/^$group //p" tools/packages.txt; done)
    # shellcheck disable=SC2086 # the list is meant to be split
    if [ "$(dpkg-query -W -f '${db:Status-Status}\n' $packages 2>/dev/null | grep -cx installed)" -eq \
        "$(echo "$packages" | wc -l)" ]; then
        return
    fi
    echo "installing packages" $packages
    as_root apt-get update -qq
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
}

# build_and_install [VARIABLE=VALUE...]: passed on to make.
build_and_install() {
    echo "building and installing for $("$PG_CONFIG" --version)"
    make --no-print-directory -j"$(nproc)" "$@" all >/dev/null && as_root make --no-print-directory "$@" PG_CONFIG="$PG_CONFIG" install >/dev/null
}
