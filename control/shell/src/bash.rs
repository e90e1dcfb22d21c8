//! The adapter for bash. The library's own adapter passes words as bash splits them. Bash also splits at `=` and `:`,
//! so that `--name=farm` and `udp:127.0.0.1:9999` arrive in pieces, and no candidate matches. This adapter joins the
//! pieces again.

use clap::Command;
use clap_complete::engine::complete;
use clap_complete::env::EnvCompleter;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

pub(crate) struct Bash;

/// `@FUNCTION@`, `@PROGRAM@` and `@VARIABLE@` are replaced.
const SCRIPT: &str = r#"# Completion for @PROGRAM@, made by `@PROGRAM@`: it asks the program that is being typed.
@FUNCTION@() {
    # Bash cuts the line at = and : as well. Pieces that no blank parts are one word. The last word ends at the cursor.
    local rest=${COMP_LINE:0:COMP_POINT} words=() piece i
    for ((i = 0; i <= COMP_CWORD; i++)); do
        if [[ $i -eq 0 || $rest == [[:blank:]]* ]]; then
            words+=('')
            rest=${rest#"${rest%%[![:blank:]]*}"}
        fi
        piece=${COMP_WORDS[i]}
        [[ $i -lt $COMP_CWORD ]] || piece=$rest
        words[-1]+=$piece
        rest=${rest#"$piece"}
    done
    # Without quotes and backslashes.
    words=("${words[@]//[\\\"\']/}")
    # What stands before the last = or : is no part of what readline replaces.
    local word=${words[-1]} breaks='' kept=''
    [[ $COMP_WORDBREAKS != *=* ]] || breaks+='='
    [[ $COMP_WORDBREAKS != *:* ]] || breaks+=':'
    [[ -z $breaks ]] || kept=${word%"${word##*["$breaks"]}"}
    local program=${1:-@PROGRAM@} candidate
    COMPREPLY=()
    while IFS= read -r candidate; do
        candidate=${candidate#"$kept"}
        [[ $candidate != *[[:blank:]]* ]] || printf -v candidate %q "$candidate"
        COMPREPLY+=("$candidate")
    done < <(@VARIABLE@=bash "${program/#\~\//$HOME/}" -- "${words[@]}" 2>/dev/null)
    # More of the word is to come: no blank behind it.
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=:/,] ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F @FUNCTION@ @PROGRAM@
"#;

impl EnvCompleter for Bash {
    fn name(&self) -> &'static str {
        "bash"
    }

    fn is(&self, name: &str) -> bool {
        name == "bash"
    }

    fn write_registration(
        &self,
        var: &str,
        name: &str,
        bin: &str,
        _completer: &str,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        let function = format!("_complete_{}", name.replace('-', "_"));
        let script = SCRIPT.replace("@FUNCTION@", &function).replace("@PROGRAM@", bin).replace("@VARIABLE@", var);
        buf.write_all(script.as_bytes())
    }

    fn write_complete(
        &self,
        cmd: &mut Command,
        args: Vec<OsString>,
        current_dir: Option<&Path>,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        let last = args.len().saturating_sub(1);
        let unspoken = args.last().is_some_and(|word| word.is_empty());
        let candidates = complete(cmd, args, last, current_dir)?;
        let words: Vec<_> = candidates.iter().map(|candidate| candidate.get_value().to_string_lossy()).collect();
        // If nothing was typed yet, commands and values are shown. The options, often many, are shown after the first
        // dash.
        let only_words = unspoken && words.iter().any(|word| !word.starts_with('-'));
        for word in words.iter().filter(|word| !only_words || !word.starts_with('-')) {
            writeln!(buf, "{word}")?;
        }
        Ok(())
    }
}
