# Sourced by the scripts that run programs from Maven Central: getting one into its cache, once, whoever else gets it at the same time.

# once_from_maven CACHE WHAT ARGUMENT...: unless CACHE is complete, calls Maven with the arguments there. Standard input is what the
# project has beside its name.
once_from_maven() {
  local cache="$1" what="$2"
  shift 2
  [ -e "$cache/complete" ] && return
  command -v javac >/dev/null || fail "javac is missing (apt-get install default-jdk-headless)"
  command -v mvn >/dev/null || fail "mvn is missing (apt-get install maven)"
  mkdir -p "$cache"
  exec 8>"$cache/fetch.lock"
  flock 8
  # Whoever holds the file open holds the lock.
  [ -e "$cache/complete" ] && { exec 8>&-; return; }
  # Maven leaves marks beside the project that it is called for.
  {
    echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>eddyline.test</groupId>'
    echo '<artifactId>programs</artifactId><version>1</version>'
    cat
    echo '</project>'
  } >"$cache/pom.xml"
  mvn -q -B -f "$cache/pom.xml" "$@" >"$cache/fetch.log" 2>&1 ||
    { tail -n 5 "$cache/fetch.log" >&2; fail "Maven could not fetch $what (see $cache/fetch.log)"; }
  touch "$cache/complete"
  exec 8>&-
}
