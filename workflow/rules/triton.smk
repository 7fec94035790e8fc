# NVIDIA's server, into the user's cache; one that is there is used.
rule install_triton:
    output:
        installed_triton("{release}"),
    log:
        f"{LOGS}/triton-{{release}}.log",
    conda:
        "../../envs/paella.yaml"
    params:
        release="{release}",
    message:
        "install Triton {wildcards.release}"
    shell:
        "paella triton install --release {params.release} > {log} 2>&1"
