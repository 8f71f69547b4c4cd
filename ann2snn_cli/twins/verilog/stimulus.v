// The input: the same integers at every step, an event for each that is not 0.

/* verilator lint_off UNDRIVEN */  // the memory is filled by the bench, with $readmemh

module stimulus #(
    parameter NEURONS = 1,
    parameter BITS = 9
) (
    input clock,

    input        turn,  // of value `index`
    input [31:0] index,

    output reg                   out_valid,
    output reg [31:0]            out_address,
    output reg signed [BITS-1:0] out_value
);
    reg signed [BITS-1:0] value [0:NEURONS-1];

    always @(posedge clock) begin
        out_valid <= turn && value[index] !== 0;
        out_address <= index;
        out_value <= value[index];
    end
endmodule
