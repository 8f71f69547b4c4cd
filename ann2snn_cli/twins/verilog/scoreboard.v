// Part of the test bench: keeps what a population or a read-out does, and compares it with the pack.
//
// The two memories of what is expected are filled by the bench. `compare` looks at every value that is
// expected, step by step, spikes before potentials, and names the first 20 of all layers that differ. What is
// no number differs from every number, and so does what never came (where a simulator knows x).

/* verilator lint_off WIDTH */  // addresses are computed in 32 bits
/* verilator lint_off UNUSED */  // addresses have 32 bits, however few values there are
/* verilator lint_off BLKSEQ */  // memories of a test bench
/* verilator lint_off UNDRIVEN */  // filled by the bench, with $readmemh

module scoreboard #(
    parameter NAME = "",
    parameter NEURONS = 1,
    parameter BITS = 16,
    parameter STEPS = 1,  // that are expected
    parameter SPIKES = 1,  // are spikes expected?
    parameter POTENTIALS = 1  // are potentials?
) (
    input        clock,
    input        turn,  // a neuron is being computed: a clock later it is seen here
    input [31:0] step,

    input                   spike,
    input [31:0]            address,
    input signed [BITS-1:0] potential
);
    reg [NEURONS-1:0]     expected_spikes     [0:STEPS-1];
    reg signed [BITS-1:0] expected_potentials [0:STEPS*NEURONS-1];
    reg                   seen_spike          [0:STEPS*NEURONS-1];
    reg signed [BITS-1:0] seen_potential      [0:STEPS*NEURONS-1];

    reg turned;
    reg [NEURONS-1:0] line;
    integer t, i, at;

    always @(posedge clock) begin
        turned <= turn;
        if (turned && step < STEPS) begin
            seen_spike[step * NEURONS + address] = spike;
            seen_potential[step * NEURONS + address] = potential;
        end
    end

    task mismatch(input [8*256-1:0] sample, input integer neuron, input spikes, input signed [BITS:0] wanted,
                  input signed [BITS:0] got);
        begin
            $write("MISMATCH sample=%0s layer=%0s step=%0d neuron=%0d ", sample, NAME, t + 1, neuron);
            if (spikes) $write("field=spike expected=%0d ", wanted);
            else $write("field=potential expected=%0d ", wanted);
            if (^got === 1'bx) $display("got=x");
            else $display("got=%0d", got);
        end
    endtask

    task compare(input [8*256-1:0] sample, inout integer checked, inout integer mismatches);
        for (t = 0; t < STEPS; t = t + 1) begin
            line = expected_spikes[t];
            at = t * NEURONS;
            if (SPIKES) for (i = 0; i < NEURONS; i = i + 1) begin
                checked = checked + 1;
                if (line[i] !== seen_spike[at + i]) begin
                    mismatches = mismatches + 1;
                    if (mismatches <= 20) mismatch(sample, i, 1, line[i], seen_spike[at + i]);
                end
            end
            if (POTENTIALS) for (i = 0; i < NEURONS; i = i + 1) begin
                checked = checked + 1;
                if (expected_potentials[at + i] !== seen_potential[at + i]) begin
                    mismatches = mismatches + 1;
                    if (mismatches <= 20)
                        mismatch(sample, i, 0, expected_potentials[at + i], seen_potential[at + i]);
                end
            end
        end
    endtask
endmodule
